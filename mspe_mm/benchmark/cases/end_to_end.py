"""The multi-scale evaluation at the base resolution against mmseg's test loop: loading, model and metrics together.

Ours is one row of ``tools/eval_multiscale.py``. The peer is the test loop that mmseg's ``tools/test.py`` builds and runs,
with the stock ``EncoderDecoder`` and ``VisionTransformer``, the same weights, and otherwise the same config. Both build a
new loader and a new metric in every round. The data set is synthetic. The outputs that are compared are the mIoUs.
"""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from torch import Tensor

from ...data.synthetic import write_synthetic
from ...errors import InputError
from ...evaluation.sweep import evaluate
from ...runtime.runner import MSPERunner
from ..arguments import check_base, check_host
from ..models import NAMES, PATCH, build, compiled, read_config, same_weights, setr_settings
from ..ratios import Candidate, Comparison, Settings
from ..timing import Step

STOCK, MSPE = 'setr_synthetic.py', 'setr_mspe_synthetic.py'


def comparisons(settings: Settings, models: Sequence[str], resolutions: Sequence[int], images: int, workers: int,
                out_dir: str | Path) -> list[Comparison]:
    """The comparisons of this case.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        resolutions: Base resolutions in pixels.
        images: Number of images in the data set.
        workers: Number of processes that load them; 0 for none.
        out_dir: Folder that the data set is written to.

    Raises:
        InputError: For a resolution that is not whole patches, a missing host library, or a device that the runner would
            not take.
    """
    check_host('mspe_mm.seg')
    if torch.device(settings.device).type != torch.device(get_device()).type:
        raise InputError(f'--device {settings.device}: a runner takes the GPU if there is one; to measure on the CPU, hide '
                         'the GPU by CUDA_VISIBLE_DEVICES=')
    found = []
    for model in models:
        for base in resolutions:
            check_base(base)
            of = dict(size=model, base=base, images=images, workers=workers, settings=settings, out_dir=str(out_dir))
            same = dict(tokens=(base // PATCH)**2, images=images, same_output=True)
            found.append(Comparison(
                dict(model=f'SETR, {NAMES[model]}', image=f'{base} px'),
                Candidate('evaluate at the base resolution', partial(sweeping, **of), **same, ours=True),
                (Candidate('mmseg tools/test.py', partial(testing, **of), **same), ), memory=False, flops=False))
    return found


def sweeping(size: str, base: int, settings: Settings, **data) -> Step:
    """One row of the multi-scale evaluation."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        runner = MSPERunner.from_cfg(_config(MSPE, size, base, **data))
    same_weights(runner.model, build('mmseg', runner.cfg.model))
    compiled(runner.model.backbone, settings.compile)

    def step(_: int) -> Tensor:
        with settings.autocast():
            return torch.tensor(evaluate(runner, 'mspe', (base, base))['metrics']['mIoU'])
    return step


def testing(size: str, base: int, settings: Settings, **data) -> Step:
    """mmseg's test loop."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')    # mmengine warns of a visualiser that two runners share
        runner = Runner.from_cfg(_config(STOCK, size, base, **data))
    same_weights(runner.model, build('mmseg', _config(MSPE, size, base, **data).model))
    compiled(runner.model.backbone, settings.compile)
    runner.test()    # the first test registers the hooks

    def step(_: int) -> Tensor:
        with settings.autocast():
            return torch.tensor(runner.build_test_loop(runner.cfg.test_cfg).run()['mIoU'])
    return step


def _config(recipe: str, size: str, base: int, images: int, workers: int, out_dir: str) -> Config:
    """A recipe of the repository with another model and other images."""
    folder = Path(out_dir) / f'synthetic_{base}'
    write_synthetic(folder, 1, images, (base, base))
    cfg = read_config(recipe)
    cfg.merge_from_dict(dict(
        model=setr_settings(size, base),
        test_dataloader=dict(num_workers=workers, persistent_workers=workers > 0, dataset=dict(data_root=str(folder))),
        work_dir=str(Path(out_dir) / 'log'), log_level='ERROR', experiment_name=f'{Path(recipe).stem}_{size}_{base}',
        load_from=None))
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type in ('Resize', 'ResizeIfLarger'):
            step.scale = (base, base)
    return cfg
