"""Datasets by name: families know their sources, sources their file formats."""
