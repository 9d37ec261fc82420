"""The commands of `hil lab`."""
