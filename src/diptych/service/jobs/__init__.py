"""Jobs and their store. The database is the truth; every message is only a bell."""
