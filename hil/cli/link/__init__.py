"""The commands of `hil link`."""
