"""torchflows: gradient and divergence of OT-Flow's potential are wrong once w is not 1."""

import sys
from importlib.metadata import version

import torch
from torchflows.bijections.continuous.otflow import OTPotential

torch.manual_seed(0)
net = OTPotential(event_size=3, hidden_size=4).double()
net.w.data = torch.tensor([0.5, -1.0, 2.0, 0.3], dtype=torch.float64)  # at the start it is 1
s = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)  # rows of (x, t)


def potential(s: torch.Tensor) -> torch.Tensor:
    """Equation 8 of arXiv:2006.00104, of one row."""
    quadratic = 0.5 * (net.A @ s).square().sum()
    return net.w @ net.resnet(s[None])[0] + quadratic + net.b @ s


by_autograd = torch.autograd.grad(sum(potential(row) for row in s), s)[0][:, :-1]
hessians = [torch.autograd.functional.hessian(potential, row)[:-1, :-1] for row in s.detach()]
divergence = -torch.stack([torch.trace(hessian) for hessian in hessians])

gradient, _ = net.gradient(s)
u0 = net.resnet.compute_u0(s)
got = net.compute_divergence(s, u0, net.resnet.compute_z1(net.w, u0))

errors = [(gradient - by_autograd).abs().max().item(), (got - divergence).abs().max().item()]
print(f"torchflows {version('torchflows')}, against autograd")
print("expected errors below 1e-10")
print(f"got {errors[0]:.3f} in the gradient, {errors[1]:.3f} in the divergence")
sys.exit(int(max(errors) > 1e-10))
