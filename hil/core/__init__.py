"""The ground floor: waits, commands, processes, files, locks, namespaces, paths, logs, kinds. Imports no other room."""
