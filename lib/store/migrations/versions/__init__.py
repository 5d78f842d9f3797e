"""One file a version; see ``lib.store.migrations``."""
