#!/bin/sh
# Builds a wheel, installs it with pip in a fresh virtual environment, runs a tiny suite from it far
# from the checkout, and checks what came out.
#
#     tests/packaging/install.sh PYTHON CONSTRAINTS [BACKEND...]
#
# as `python3.11 constraints.txt torch jax`, or `python3.12 constraints-3.12.txt jax`. EXECUTOR=inline
# does without Ray, on a machine where it cannot start.
set -eu
python=$1 constraints=$(realpath "$2")
shift 2
backends=${*:-torch jax}
checkout=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
extras=$(echo "$backends" | tr ' ' ',')

"$python" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/pip" wheel --quiet --no-deps --wheel-dir "$work" "$checkout"
wheel=$(echo "$work"/cnf_harness-*.whl)
"$bin/pip" install --quiet --constraint "$constraints" "$wheel[$extras,ray,mlflow,data,metrics,report]"
"$bin/pip" check
echo "$("$bin/python" --version): $("$bin/pip" list --format freeze | wc -l) packages," \
    "$(du -sm "$work/venv" | cut -f1) MiB"

cd "$work"
cp "$checkout/tests/packaging/tiny.yaml" .
filter=$(echo "$backends" | sed 's/[^ ]*/backend=&/g; s/ / | /g')
"$bin/harness" plan quickstart -k "$filter" >plan.txt
"$bin/harness" run tiny.yaml -k "$filter" --executor "${EXECUTOR:-ray}"
"$bin/harness" results tiny.yaml -k "$filter"
test -s runs/reports/tiny/index.html
test -s runs/mlflow.db
count=$("$bin/python" -c 'import harness; print((harness.load("runs")["status"] == "ok").sum())')
test "$count" -eq "$(echo "$backends" | wc -w)"
"$bin/python" -c 'import harness, sys; assert harness.__file__.startswith(sys.prefix)'
echo "installed by pip: $count of $count trials ok"
