"""One trial from its start to the committed record."""
