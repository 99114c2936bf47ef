"""torchdiffeq: adaptive_heun starts each step with the last stage of the one before it."""

import math
import sys
from importlib.metadata import version

import torch
from torchdiffeq import odeint

N = 10
grid = torch.linspace(0, 1, N + 1, dtype=torch.float64)
found = odeint(
    lambda t, y: y,
    torch.ones(1, dtype=torch.float64),
    grid[[0, -1]],
    method="adaptive_heun",
    rtol=1.0,  # every step is accepted, so that the steps are those of the grid
    atol=1.0,
    options={"step_t": grid[1:], "first_step": 1.0},
)[-1].item()
h = 1 / N
expected = (1 + h + h**2 / 2) ** N
print(f"torchdiffeq {version('torchdiffeq')}, y' = y, {N} equal steps of adaptive_heun")
print(f"expected {expected:.6f}, Heun's method (e = {math.e:.6f})\ngot      {found:.6f}")
sys.exit(int(abs(found - expected) > 1e-6))
