"""What a Jetson Orin says, read correctly: console, identity, slots, sensors, power modes (docs/jetson.md)."""
