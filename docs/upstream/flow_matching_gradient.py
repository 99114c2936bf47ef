"""flow_matching: with enable_grad=True the likelihood still has no gradient."""

import sys
from importlib.metadata import version

import torch
from flow_matching.solver import ODESolver

theta = torch.tensor(0.5, requires_grad=True)
_, log_det = ODESolver(lambda x, t: theta * x).compute_likelihood(
    torch.zeros(2, 3),
    lambda z: z.sum(1),
    step_size=None,
    method="dopri5",
    exact_divergence=True,
    enable_grad=True,
)
total = log_det.mean()
got = torch.autograd.grad(total, theta)[0].item() if total.requires_grad else None
print(f"flow_matching {version('flow_matching')}, d log det / d theta of the field theta x")
print(f"expected -3.0\ngot {got}")
sys.exit(int(got is None or abs(got + 3) > 1e-3))
