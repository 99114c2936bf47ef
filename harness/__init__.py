"""Compare continuous normalizing flows across frameworks, solvers and regularizers."""

__version__ = "0.1.0"
