"""Run every method at every resolution."""
from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from tqdm import tqdm

from ..core import MultiScalePatchEmbed
from ..core.adapter import find_patch_embed
from ..errors import InputError
from . import segmentation, transforms
from .methods import restores_image, using_method
from .report import save_json


def evaluate(runner: Runner, method: str, resolution: tuple[int, int], bootstrap: int = 0,
             calibrated: MultiScalePatchEmbed | None = None, degrade: list[dict] | None = None) -> dict:
    """One row: ``method`` on the test set with its images at ``resolution``.

    Args:
        runner: With its model loaded; its config's ``test_dataloader`` and ``test_evaluator`` are used.
        method: One of :data:`~mspe_mm.evaluation.methods.METHODS`.
        resolution: (height, width) in pixels that the base resolution becomes; images of another size than the base, and
            sliding windows, change by the same factors.
        bootstrap: Resamples for the 95% intervals over images; 0 for none.
        calibrated: The layer of the method ``'calibrated'``.
        degrade: How the images lose their resolution, see :class:`~mspe_mm.evaluation.transforms.ChangeResolution`; by
            default by the layer's downsampling model.

    Returns:
        ``{'method', 'resolution', 'metrics', 'images_per_second', 'token_grid', 'kernel_size'}``, and ``'intervals'`` with
        ``bootstrap``. ``images_per_second`` counts the model's own time, from the collated batch to the predictions.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    layer = find_patch_embed(model)
    base = layer.base_resolution
    scale = tuple(length / whole for length, whole in zip(resolution, base))
    restore = restores_image(method)

    loader_cfg = copy.deepcopy(runner.cfg.test_dataloader)
    loader_cfg.dataset.pipeline = transforms.at_resolution(
        loader_cfg.dataset.pipeline, scale=scale, interpolation=layer.interpolation, antialias=layer.antialias,
        restore=restore, degrade=degrade)
    loader_cfg.persistent_workers = False    # each row has a loader of its own
    loader = runner.build_dataloader(loader_cfg)
    evaluator = runner.build_evaluator(segmentation.evaluator_config(runner.cfg.test_evaluator, bootstrap))
    evaluator.dataset_meta = loader.dataset.metainfo

    model.eval()
    seconds = 0.
    seen_scale, seen_size = ((1., 1.), base) if restore else (scale, resolution)
    with using_method(model, method, calibrated) as used, segmentation.scaled_inference(model, seen_scale), torch.no_grad():
        for batch in tqdm(loader, desc=f'{method} {resolution[0]} x {resolution[1]}', leave=False, unit='batch',
                          disable=None if is_main_process() else True):    # None: a bar on terminals, none in logs
            start = _now()
            outputs = runner.model.test_step(batch)
            seconds += _now() - start
            evaluator.process(data_samples=outputs, data_batch=batch)
        row = dict(method=method, resolution=list(resolution), token_grid=list(used.token_grid(seen_size)),
                   kernel_size=list(used.kernel_size(seen_size)))
    metrics = evaluator.evaluate(len(loader.dataset))
    intervals = metrics.pop('intervals', None)
    row['metrics'] = {name: float(value) for name, value in metrics.items()}
    if intervals:
        row['intervals'] = intervals
    row['images_per_second'] = len(loader.sampler) / seconds
    return row


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def sweep(runner: Runner, methods: list[str], resolutions: list[tuple[int, int]], out_dir: str | Path, header: dict,
          bootstrap: int = 0, resume: bool = False, **settings: Any) -> dict:
    """Rows of all methods at all resolutions; every finished row is saved to ``out_dir/results.json`` at once.

    Args:
        runner: See :func:`evaluate`.
        methods: Methods to run.
        resolutions: (height, width) of each.
        out_dir: Where ``results.json`` is kept.
        header: What identifies the run (dataset, config, checkpoint, ...); stands before the rows.
        bootstrap: See :func:`evaluate`.
        resume: Keep the rows that ``results.json`` already has.
        **settings: Of :func:`evaluate`.

    Raises:
        InputError: If the file to be resumed is of another run.
    """
    path = Path(out_dir) / 'results.json'
    done = _finished_rows(path, header) if resume and path.is_file() else {}
    results = dict(header, rows=[])
    for method in methods:
        for resolution in resolutions:
            row = done.get((method, *resolution)) or evaluate(runner, method, resolution, bootstrap, **settings)
            results['rows'].append(row)
            if is_main_process():
                save_json(results, path)
                tqdm.write('{:>10} {:>4} x {:<4} {} {:6.2f}   {:.1f} images/s'.format(
                    method, *resolution, segmentation.PRIMARY_METRIC,
                    row['metrics'].get(segmentation.PRIMARY_METRIC) or float('nan'), row['images_per_second']))
    return results


def _finished_rows(path: Path, header: dict) -> dict[tuple, dict]:
    try:
        found = json.loads(path.read_text())
        rows = {(row['method'], *row['resolution']): row for row in found.pop('rows')}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} cannot be resumed, it is damaged: {error}; remove it or leave out --resume') from error
    for key, value in json.loads(json.dumps(header)).items():
        if found.get(key) != value:
            raise InputError(f'{path} cannot be resumed: its {key} is {found.get(key)}, and this run has {value}; choose '
                             'another --out-dir or leave out --resume')
    return rows
