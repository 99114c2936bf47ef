"""Records as the tables and figures see them."""
