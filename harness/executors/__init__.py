"""Where trials run: on a Ray cluster, or in this process."""
