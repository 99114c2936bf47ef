"""One file a family of datasets, each with its `LOADERS`."""
