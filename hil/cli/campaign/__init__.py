"""The commands of `hil campaign`."""
