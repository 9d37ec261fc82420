"""A shaper host: another machine that shapes the links, reached over SSH."""
