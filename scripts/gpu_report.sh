#!/usr/bin/env bash
# Measure on a GPU everything that has a row in docs/performance-gpu.md, and write that page:
#
#   scripts/gpu_report.sh [--out-dir FOLDER] [--stage STAGE ...] [--data FOLDER] [--peer-path FOLDER] [--tiny]
#
# Works on a machine without network: WHEELS=FOLDER installs the wheels of a folder first. PYTHON names the interpreter.
# Stages and options: tools/gpu_report.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "there is no $python: set PYTHON to a Python of 3.9 or newer"
if [ -n "${WHEELS:-}" ]; then
    compgen -G "$WHEELS/*.whl" >/dev/null || fail "WHEELS=$WHEELS has no wheels: give a folder of .whl files"
    "$python" -m pip --disable-pip-version-check install -q --no-index --find-links "$WHEELS" "$WHEELS"/*.whl \
        || fail "the wheels in $WHEELS cannot be installed: see pip's message above"
fi
missing=$("$python" -c '
import importlib.util
needed = ("torch", "numpy", "matplotlib", "prettytable", "safetensors", "tqdm", "mmengine", "mmcv", "mmseg", "mmdet")
print(*(name for name in needed if importlib.util.find_spec(name) is None), sep=", ")')
[ -z "$missing" ] || fail "$python lacks $missing: set WHEELS to a folder of wheels, or PYTHON to an interpreter that has them"

PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$root/tools/gpu_report.py" "$@"
