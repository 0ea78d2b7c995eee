"""CPU seconds and bytes an image, for the formula of docs/scaling.md:

    OMP_NUM_THREADS=1 python scripts/cost_per_image.py configs/setr_distill_camvid.py data/camvid/images/train

Times are CPU seconds of this process, which other work on the machine hardly changes. Weights are random.
"""
import sys
import time
from pathlib import Path

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from mspe_mm.calibration.solver import Calibrator
from mspe_mm.evaluation.flops import count_flops
from mspe_mm.runtime import cli
from mspe_mm.runtime.fast_products import fast_cpu_products

IMAGES, BATCH = 64, 4
MIXED = dict(type='MixedResolutionObjective', objective='distill', sampling='partition')


def cost(title, images, run):
    """Print the CPU seconds of ``run()``, which handles so many images, after a run that warms up."""
    run()
    start = time.process_time()
    run()
    print(f'{title}: {1e3 * (time.process_time() - start) / images:.2f} ms an image', flush=True)


def main():
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    config, folder = sys.argv[1:]
    paths = sorted(Path(folder).glob('*.jpg'))
    print(f'{len(paths)} images of {sum(path.stat().st_size for path in paths) / len(paths):.0f} bytes')
    cost('read and decode', IMAGES, lambda: [cv2.imread(str(path)) for path in paths[:IMAGES]])

    cfg = Config.fromfile(config)
    cfg.train_dataloader.dataset.data_root = folder
    for name, tuning in (('one pass a kernel', cfg.model.tuning), ('mixed resolutions', MIXED)):
        cfg.model.tuning = tuning
        model = cli.build_model(cfg).train()
        if tuning is not MIXED:
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
            cost('read, decode and augment', IMAGES, lambda: [dataset[i] for i in range(IMAGES)])  # noqa: B023
            items = [dataset[i] for i in range(BATCH)]
            batch = {key: [item[key] for item in items] for key in items[0]}

        def step(model=model, batch=batch):
            losses = model(**model.data_preprocessor(batch, True), mode='loss')
            model.parse_losses(losses)[0].backward()
        with fast_cpu_products():
            cost(f'a step, {name}', BATCH, step)
            print(f'a step, {name}: {count_flops(step) / BATCH / 1e9:.1f} GFLOP an image')

    layer = cli.require_mspe(model, config)
    calibrator = Calibrator(layer, [*layer.own_sizes])
    images = model.data_preprocessor(batch, True)['inputs']
    small = {k: layer.downsampling.resize(images, tuple(k * length for length in layer.grid_size)) for k in layer.own_sizes}
    cost('calibration, without reading', BATCH, lambda: calibrator.update(images, small))


if __name__ == '__main__':
    cli.run(main, fast_products=False)
