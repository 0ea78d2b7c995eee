#!/usr/bin/env bash
# Create a virtual environment with one OpenMMLab family and this package in it.
#
#   scripts/setup_env.sh onedl|upstream VENV
#
# mmcv has no wheels for these versions of torch, so it is built here, once: the wheel is kept in
# $MSPE_MM_WHEELS (default ~/.cache/mspe_mm/wheels) under a name that holds the torch, CUDA and Python it was
# built for, because pip's own cache knows only the source archive and would hand out a wheel of another torch.
set -euo pipefail

family=${1:?usage: setup_env.sh onedl|upstream VENV}
venv=${2:?usage: setup_env.sh onedl|upstream VENV}
root=$(cd "$(dirname "$0")/.." && pwd)
wheels=${MSPE_MM_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/mspe_mm/wheels}

case $family in
    onedl)
        torch=(torch==2.11.0 torchvision==0.26.0)
        mmcv=onedl-mmcv==2.3.6
        ;;
    upstream)
        torch=(torch==2.1.2 torchvision==0.16.2 'numpy<2')
        mmcv=mmcv==2.1.0
        ;;
    *)
        echo "setup_env.sh: unknown family '$family': choose onedl or upstream" >&2
        exit 2
        ;;
esac

"${PYTHON:-python3.11}" -m venv "$venv"
python=$venv/bin/python
pip=("$python" -m pip --disable-pip-version-check)
"${pip[@]}" install -q "${torch[@]}"
# torch 2.1 still imports pkg_resources, which setuptools has dropped since.
constraint=()
if [ "$family" = upstream ]; then constraint=('setuptools<70'); fi
"${pip[@]}" install -q ${constraint[0]+"${constraint[@]}"} \
    $( [ "$family" = onedl ] && echo "-r $root/requirements/build.txt" || echo "ninja psutil wheel" )

key=$("$python" - <<'PY'
import platform, sys, torch
device = f'cuda{torch.version.cuda}' if torch.cuda.is_available() else 'cpu'
print(f'torch{torch.__version__}-{device}-cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}')
PY
)
store=$wheels/$mmcv-$key
if ! ls "$store"/*.whl >/dev/null 2>&1; then
    echo "building $mmcv for $key (minutes, once)"
    mkdir -p "$wheels"
    build=$(mktemp -d "$wheels/.build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    MMCV_WITH_OPS=1 "${pip[@]}" wheel -q --no-deps --no-build-isolation --no-cache-dir -w "$build" "$mmcv"
    rm -rf "$store" && mv "$build" "$store"    # whole or not at all
fi
"${pip[@]}" install -q --no-deps "$store"/*.whl
"${pip[@]}" install -q ${constraint[0]+"${constraint[@]}"} -r "$root/requirements/$family.txt" -r "$root/requirements/dev.txt"
"${pip[@]}" install -q ${constraint[0]+"${constraint[@]}"} --no-build-isolation -e "$root"
