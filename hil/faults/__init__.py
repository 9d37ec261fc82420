"""What goes wrong on purpose: kinds of faults, and faults in the middle of an action."""
