"""Where readings land: SQLite or PostgreSQL, behind one face."""
