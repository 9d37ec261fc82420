"""The commands of `hil bench`."""
