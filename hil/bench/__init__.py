"""A lab brought up: ``with Bench(lab) as bench: ...``."""
