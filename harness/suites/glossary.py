"""What the words of a suite mean, a line each; docs/numerics.md has the formulas in full."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["GLOSSARY"]

_REGULARIZERS: Mapping[str, str] = {
    "directional_jvp": "sum over d of (J f)_d^2, the directional derivative itself",
    "ffjord.dl2": "sqrt(mean over d of (J^T f)_d^2), FFJORD's code",
    "ffjord.jdiag": "sqrt(mean over i of J_ii^2), as FFJORD's code means it",
    "ffjord.jfrob": "sqrt(mean over i, j of J_ij^2), FFJORD's code",
    "ffjord.joffdiag": "mean over i != j of J_ij^2, as FFJORD's code means it",
    "ffjord.l1": "mean over d of |f_d|, FFJORD's code",
    "ffjord.l2": "sqrt(mean over d of f_d^2), FFJORD's code",
    "jacobian_sum": "sum over d of (eps^T J)_d^2, RNODE's text",
    "kinetic_sum": "sum over d of f_d^2, RNODE's text",
    "released.jdiag": "sqrt(mean over i of J_i0^2): column 0, as FFJORD's code has it",
    "released.joffdiag": "sum over j > 0 of J_ij^2 / (D (D - 1)), as FFJORD's code has it",
    "rnode.directional": "1/2 mean over d of (J^T f)_d^2, RNODE's code",
    "rnode.jacobian": "mean over d of (eps^T J)_d^2, RNODE's code",
    "rnode.kinetic": "1/2 mean over d of f_d^2, RNODE's code",
    "rnode.total": "1/2 mean over d of (J^T f + df/dt)_d^2, RNODE's code",
    "steer": "no penalty: end times uniform within this of T in training, STEER",
    "taylor_2": "mean over d of (d^2 z_d / dt^2)^2, TayNODE's code",
    "taylor_3": "mean over d of (d^3 z_d / dt^3)^2, TayNODE's code",
    "taylor_4": "mean over d of (d^4 z_d / dt^4)^2, TayNODE's code",
    "tpr": "distance of the trajectory at 4 times from a line, TPR's code",
}
_LAYERS: Mapping[str, str] = {
    "blend": "(1 - t) (W0 h + b0) + t (W1 h + b1)",
    "concat": "W [t, h] + b",
    "concat_v2": "W h + b + w t",
    "concatcoord": "as concat; a convolution sees the row and the column of a pixel too",
    "concatsquash": "(W h + b) * sigmoid(u t + v) + w t",
    "hyper": "W(t) h + b(t), W and b the output of a net of t",
    "ignore": "W h + b",
    "squash": "(W h + b) * sigmoid(u t + v)",
}
_NONLINEARITIES: Mapping[str, str] = {
    "elu": "h, or exp(h) - 1 below 0",
    "identity": "h",
    "relu": "max(h, 0)",
    "softplus": "log(1 + exp(h))",
    "square": "h^2",
    "swish": "h * sigmoid(beta h), one beta for all layers, trained",
    "tanh": "tanh(h)",
}
_TRACES: Mapping[str, str] = {
    "bottleneck": "Hutchinson's estimator in the narrowest hidden layer (FFJORD, 3.1.1)",
    "exact": "one product with the Jacobian a dimension",
    "hutch++": "exact in the space of J S, Hutchinson's estimator beside it, `probes` products in "
    "all (Meyer et al. 2021)",
    "hutchinson": "eps^T J eps, the mean over `probes` eps that are drawn `draws` times a solve",
}
_OBJECTIVES: Mapping[str, str] = {
    "flow_matching": "squared distance of the velocity from that of paths to base samples; no "
    "solve in training",
    "likelihood": "-log p of the batch, or the negative ELBO of an autoencoder",
}
_PATHS: Mapping[str, str] = {
    "linear": "(1 - s) x + (sigma_min + (1 - sigma_min) s) e (Lipman et al. 2023)",
    "trigonometric": "cos(pi s / 2) x + sin(pi s / 2) e (Albergo and Vanden-Eijnden 2023)",
    "vp": "exp(-B / 2) x + sqrt(1 - exp(-B)) e, B = 0.1 s + 9.95 s^2 (Lipman et al. 2023)",
}
_COUPLINGS: Mapping[str, str] = {
    "independent": "each row with the base sample that was drawn for it",
    "minibatch_ot": "the assignment of the batch with the least sum of squared distances (Tong et "
    "al. 2024)",
}
_GRADIENTS: Mapping[str, str] = {
    "adjoint": "the adjoint ODE, solved backwards",
    "auto": "direct if what it keeps fits the memory at hand, otherwise checkpoint; decided once",
    "checkpoint": "as direct; keeps the state at each accepted step and computes the step again",
    "direct": "backpropagation through the accepted steps",
    "reversible": "training solves by pairs of states that can be followed back; keeps the last "
    "pair (McCallum and Foster 2024)",
    "symplectic": "as checkpoint; computes and differentiates one evaluation at a time again "
    "(Matsubara et al. 2021)",
}
_ENGINES: Mapping[str, str] = {
    "library": "torchdiffeq or diffrax take the steps, from the same tableaux",
    "native": "the backend's own loop over the tableau",
}
_PRECISIONS: Mapping[str, str] = {
    "float32": "without TF32",
    "float64": "double precision throughout",
    "tf32": "float32 arrays whose products may use TF32; GPUs only",
}
_OPTIMIZERS: Mapping[str, str] = {
    "adam": "m^ / (sqrt(v^) + eps); weight decay is added to the gradient",
    "adam_eps_hat": "eps before the bias correction, weight decay without effect: FFJORD's code",
    "adamax": "the infinity norm instead of v; weight decay is added to the gradient",
    "adamw": "adam; weight decay is taken off the array itself",
}
_PROTOCOLS: Mapping[str, str] = {
    "paper": "defaults as arXiv:1810.01367 has them, by the kind of the data",
    "released-code": "defaults as rtqichen/ffjord has them, quirks included",
}

GLOSSARY: Mapping[str, Mapping[str, str]] = {
    "regularizers": _REGULARIZERS,
    "layers": _LAYERS,
    "nonlinearities": _NONLINEARITIES,
    "traces": _TRACES,
    "objectives": _OBJECTIVES,
    "paths of flow_matching": _PATHS,
    "couplings of flow_matching": _COUPLINGS,
    "gradients": _GRADIENTS,
    "engines": _ENGINES,
    "precisions": _PRECISIONS,
    "optimizers": _OPTIMIZERS,
    "protocols": _PROTOCOLS,
}
"""Meanings by kind and name."""
