"""Numbers that are the same bits on every machine."""
