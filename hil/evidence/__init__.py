"""What a run records: events, measurements, artefacts, verdicts, and the store of all runs."""
