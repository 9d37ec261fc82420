"""Where leases, runs and trials are kept: a SQLite file each, or one PostgreSQL that several hosts share."""
