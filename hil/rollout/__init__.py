"""The operation under test: upload, relay, install, activate, confirm, configure."""
