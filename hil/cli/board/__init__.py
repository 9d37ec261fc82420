"""The commands of `hil board`."""
