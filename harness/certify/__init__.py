"""A likelihood kit for any library of continuous normalizing flows: `log p` against closed forms.

    from harness.certify import certify

    def test_log_prob() -> None:
        certificate = certify(build, framework="torch")
        assert certificate.ok, str(certificate)

or `python -m harness.certify package.module:build --framework torch`, which exits with 0, 1 or 2.

`build(field, dim)` comes from the user. It makes a flow of the kit's field and returns
`log_prob(x)`, or the pair `log_prob, sample`:

    field(t, x)        velocities dx/dt; x of shape (..., *field.shape), t a number, a scalar
                       array, or one time a row. In torch a `torch.nn.Module`, in jax a pytree.
    field.end_time     T. Noise N(0, I) stands at t = 0, data at t = T.
    field.shape        shape of one event: (dim,), or (channels, height, width).
    field.dtype        precision of x, as the framework names it.
    log_prob(x)        natural logarithm of the density of each row, of shape (rows,), for x of
                       shape (rows, *field.shape).
    sample(z)          the data that the flow makes of the noise z, of the shape of z; or the pair
                       of it and its log p.

Differentiating `field` is the library's business: numpy's accepts complex x. What a library cannot
do raises `NotImplementedError("why")`: that check is not run, and says why. A second builder,
`estimated`, may have a log_prob that estimates its trace with random probes.

The kit needs numpy, scipy and the one framework; it knows nothing of the harness's backends.
"""

from __future__ import annotations

from harness.certify.certificate import Certificate, Finding
from harness.certify.kit import certify

__all__ = ["Certificate", "Finding", "certify"]
