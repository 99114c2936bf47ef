"""Published values as data, and how a result stands against them."""
