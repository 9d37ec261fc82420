"""Where spacecraft are: elements -> geometry -> contact plan; sunlight.  Pure functions, units in names."""
