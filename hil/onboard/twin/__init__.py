"""The twin: heat and power of one spacecraft's boards as functions from numbers to numbers, standard library only."""
