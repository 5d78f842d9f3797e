"""Database and files: the only mutable state."""

from lib.store import events, tables  # both define tables, which must be known before a database is opened

__all__ = ["events", "tables"]
