"""SSH to boards and to the shaper host: log-in, shell, files that resume."""
