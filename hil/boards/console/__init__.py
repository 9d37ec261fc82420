"""The serial console: one owner of the port, any number of readers, nothing lost."""
