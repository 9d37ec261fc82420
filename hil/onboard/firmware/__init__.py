"""Firmware of a container board: PID 1 of the hardware image. Standard library and ctypes only."""
