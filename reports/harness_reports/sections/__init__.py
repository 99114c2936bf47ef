"""One file a section of the report: entries in, elements of a page out."""
