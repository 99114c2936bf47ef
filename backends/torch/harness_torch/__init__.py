"""The torch backend. Importing it imports no framework."""

from harness_torch.backend import TorchBackend

__all__ = ["TorchBackend"]
