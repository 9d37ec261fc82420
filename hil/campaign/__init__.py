"""A campaign run: pytest tests in file order become evidence, verdicts, an exit code and a report."""
