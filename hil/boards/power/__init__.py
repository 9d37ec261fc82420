"""The supervisor of a real board: power strips, relays, pins, and what makes one supervisor of them (docs/power.md)."""
