"""Check this host, its rack and its shaper host: what is missing, what it is for, what to do."""
