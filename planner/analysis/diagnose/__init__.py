"""Out-of-memory messages read."""
