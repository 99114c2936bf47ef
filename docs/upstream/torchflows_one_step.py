"""torchflows: the default solver makes one Runge-Kutta step, whatever atol and rtol are."""

import sys
from importlib.metadata import version

import torch
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative


class Turn(torch.nn.Module):
    """A turn by 3 radians: it keeps lengths."""

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The velocity."""
        return 3 * torch.stack([-x[:, 1], x[:, 0]], dim=1)


flow = ContinuousBijection((2,), HutchinsonTimeDerivative(Turn()), atol=1e-9, rtol=1e-9)
x, _ = flow.inverse(torch.tensor([[1.0, 0.0]]))
print(f"torchflows {version('torchflows')}, atol = rtol = 1e-9, a turn by 3 radians")
print(f"expected (-0.990, 0.141)\ngot      ({x[0, 0].item():.3f}, {x[0, 1].item():.3f})")
sys.exit(int(abs(x.norm().item() - 1) > 1e-3))
