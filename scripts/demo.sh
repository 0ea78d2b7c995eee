#!/usr/bin/env bash
# The main job from beginning to end on the synthetic data set: make the data, train a small SETR at its base resolution,
# tune its patch embedding, and compare all methods at several resolutions. Results land in work_dirs/demo.
set -euo pipefail
cd "$(dirname "$0")/.."

python tools/make_synthetic.py data/synthetic
python tools/train.py configs/setr_synthetic.py
python tools/train.py configs/setr_mspe_synthetic.py
python tools/eval_multiscale.py configs/setr_mspe_synthetic.py work_dirs/setr_synthetic/epoch_20.pth \
    --adapter work_dirs/setr_mspe_synthetic/adapter.safetensors --resolutions 32 48 64 96 128 \
    --methods vanilla img_resize flexivit mspe --out-dir work_dirs/demo
