"""The container board: a container whose firmware boots a real OS image, with disks and power that can be cut."""
