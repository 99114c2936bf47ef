"""The test kit any backend must pass.

Run it as

    python -m pytest -p harness.conformance.plugin --pyargs harness.conformance --backend NAME

It sees a backend only through `harness.interface`, in float64, on small models, and compares it
with an oracle: the mathematics of docs/numerics.md once more, literally, in plain numpy without
automatic differentiation. Its cases are a covering set: every pair of values of layer,
nonlinearity, trace, solver, gradient mode and form (linear or convolutional) occurs; `--all` runs
the full product. Cases that a backend does not support are left out and the others cover every
pair that it can have; the last lines say how many of all pairs those are, and a run with less than
a quarter of them fails: it certifies nothing. What tests ask beyond a case is skipped with the
backend's reason, and counted.
"""
