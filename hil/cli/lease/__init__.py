"""The commands of `hil lease`."""
