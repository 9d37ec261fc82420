"""Everything that runs on a board, with the standard library only (inference aside)."""
