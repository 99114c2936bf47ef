"""The kit's own computation of a flow: numpy, float64, docs/numerics.md."""
