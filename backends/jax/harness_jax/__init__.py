"""The jax backend of the harness. Importing it does not import jax."""

from harness_jax.backend import JaxBackend as JaxBackend

__all__ = ["JaxBackend"]
