"""The net of a block and its derivatives."""
