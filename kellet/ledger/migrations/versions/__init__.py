"""One file a shape, each after the one that it names as ``down_revision``."""
