"""torchflows: the estimated divergence has no gradient, so training does not see the log det."""

import sys
from importlib.metadata import version

import torch
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative


class Scale(torch.nn.Module):
    """f(t, x) = theta x in three dimensions: over [0, 1] the log determinant is 3 theta."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The velocity."""
        return self.theta * x


torch.manual_seed(0)
field = Scale()
derivative = HutchinsonTimeDerivative(field, n_noise_samples=20)
flow = ContinuousBijection((3,), derivative)
_, log_det = flow.inverse(torch.zeros(500, 3))
(gradient,) = torch.autograd.grad(log_det.mean(), [field.theta], allow_unused=True)
got = 0.0 if gradient is None else gradient.item()
print(f"torchflows {version('torchflows')}, d log det / d theta at x = 0")
print(f"expected 3.0\ngot      {got:.1f}")
sys.exit(int(abs(got - 3) > 0.3))
