"""flow_matching: the estimated divergence works in float32 only."""

import sys
from importlib.metadata import version

import torch
from flow_matching.solver import ODESolver

x = torch.zeros(2, 3, dtype=torch.float64)
print(f"flow_matching {version('flow_matching')}, field 0.1 x in three dimensions, float64")
print("expected log det -0.3")
try:
    _, log_det = ODESolver(lambda x, t: 0.1 * x).compute_likelihood(
        x, lambda z: z.sum(1), step_size=None, method="dopri5"
    )
except RuntimeError as error:
    print(f"got RuntimeError: {error}")
    sys.exit(1)
print(f"got log det {log_det[0].item():.4f}")
sys.exit(int(abs(log_det[0].item() + 0.3) > 1e-3))
