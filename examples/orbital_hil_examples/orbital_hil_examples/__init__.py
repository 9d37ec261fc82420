"""A power strip, a board driver and a fault that orbital-hil finds by their entry points."""
