"""Database and files: the only mutable state."""
