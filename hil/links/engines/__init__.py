"""What shapes: this kernel or one in User-Mode Linux, behind one agent; the cables and messages to it."""
