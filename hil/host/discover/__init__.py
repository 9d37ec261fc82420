"""Find boards, serial ports, power strips and neighbours that a first lab file can name."""
