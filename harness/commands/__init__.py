"""One file a verb of the command line, and what it prints."""
