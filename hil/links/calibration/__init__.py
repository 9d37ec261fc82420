"""What links really do: packets sent, timed, counted and compared with what was commanded."""
