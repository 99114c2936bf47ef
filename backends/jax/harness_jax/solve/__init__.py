"""One solve of a block, and its gradient."""
