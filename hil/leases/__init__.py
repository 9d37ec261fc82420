"""The right to use boards: who holds which, who waits for which, in one file per lab controller."""
