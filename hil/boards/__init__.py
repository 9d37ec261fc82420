"""One board: the protocol of its verbs, drivers that implement it, and the conformance suite that all drivers pass."""
