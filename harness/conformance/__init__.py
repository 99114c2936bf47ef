"""The test kit any backend must pass.

Run it as

    python -m pytest -p harness.conformance.plugin --pyargs harness.conformance --backend NAME

It sees a backend only through `harness.interface`, in float64, on small models. Its cases are a
covering set: every pair of values of layer, nonlinearity, trace, solver and gradient mode occurs,
but for nonlinearity with solver; `--all` runs the full product. What a backend does not support is
skipped with its reason.
"""
