"""flow_matching: the exact divergence indexes channels where it should index entries."""

import sys
from importlib.metadata import version

import torch
from flow_matching.solver import ODESolver

x = torch.zeros(2, 3, 2, 2)
print(f"flow_matching {version('flow_matching')}, field 0.1 x, events of shape (3, 2, 2)")
print("expected log det -1.2")
try:
    _, log_det = ODESolver(lambda x, t: 0.1 * x).compute_likelihood(
        x, lambda z: torch.zeros(len(z)), step_size=None, method="dopri5", exact_divergence=True
    )
except IndexError as error:
    print(f"got IndexError: {error}")
    sys.exit(1)
print(f"got log det {log_det[0].item():.4f}")
sys.exit(int(abs(log_det[0].item() + 1.2) > 1e-3))
