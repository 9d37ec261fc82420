"""What an updater needs inside the OS beyond its own programs. Standard library only: these run on the board."""
