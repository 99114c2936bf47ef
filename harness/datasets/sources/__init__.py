"""Where raw files come from: a folder, a download, a package."""
