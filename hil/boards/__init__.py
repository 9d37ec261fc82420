"""One board: the protocol of its verbs, drivers that implement it, and the conformance suite that every driver passes."""
