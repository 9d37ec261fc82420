"""Updaters of an operating system behind one protocol: RAUC, SWUpdate, and what a file declares."""
