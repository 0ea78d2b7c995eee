"""Run every method at every resolution."""
from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from tqdm import tqdm

from ..data import change_resolution as transforms
from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import find_patch_embed
from .flops import count_flops
from .methods import may_fail, restores_image, trained_parameters, using_method
from .report import number, save_json
from .tasks import task_of


def evaluate(runner: Runner, method: str, resolution: tuple[int, int], bootstrap: int = 0, warm_up: bool = False,
             **settings: Any) -> dict:
    """One row: ``method`` on the test set with its images at ``resolution``.

    Args:
        runner: With its model loaded; its config's ``test_dataloader`` and ``test_evaluator`` are used.
        method: One of :data:`~mspe_mm.evaluation.methods.METHODS`.
        resolution: See :func:`prepared`.
        bootstrap: Resamples for the 95% intervals over images; 0 for none.
        warm_up: Run the first batch once more before, untimed: that is when a compiled model is compiled.
        **settings: Of :func:`prepared`. With a ``token_grid``, the arithmetic is counted.

    Returns:
        ``{'method', 'resolution', 'metrics', 'images_per_second', 'token_grid', 'kernel_size', 'trained_parameters'}``,
        ``'intervals'`` with ``bootstrap``, and ``'gflops'`` of one image with ``token_grid``. ``images_per_second`` counts
        the model's own time, from the collated batch to the predictions. Where the model cannot run with the token grid
        that the stock patch size gives, ``'metrics'`` is empty, ``'images_per_second'`` None, and ``'failure'`` says why.
    """
    task = task_of(runner.cfg)
    seconds, failure = 0., None
    with prepared(runner, method, resolution, **settings) as (loader_cfg, layer, batch_size):
        loader = runner.build_dataloader(loader_cfg)
        evaluator = runner.build_evaluator(task.evaluator_config(runner.cfg.test_evaluator, bootstrap))
        evaluator.dataset_meta = loader.dataset.metainfo
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        at_base = tuple(resolution) == layer.base_resolution
        for batch in tqdm(loader, desc=f'{method} {resolution[0]} x {resolution[1]}', leave=False, unit='batch',
                          disable=None if is_main_process() else True):    # None: a bar on terminals, none in logs
            try:
                if warm_up:
                    runner.model.test_step(copy.deepcopy(batch))
                    warm_up = False
                start = _now()
                outputs = runner.model.test_step(batch)
            except (AssertionError, RuntimeError, ValueError) as error:
                if not may_fail(method) or at_base or isinstance(error, torch.cuda.OutOfMemoryError):
                    raise
                failure = ' '.join(str(error).split()) or type(error).__name__
                break
            seconds += _now() - start
            evaluator.process(data_samples=outputs, data_batch=batch)
        row = dict(method=method, resolution=list(resolution), token_grid=list(layer.token_grid(batch_size)),
                   kernel_size=list(layer.kernel_size(batch_size)),
                   trained_parameters=trained_parameters(model, method))
        if settings.get('token_grid') and failure is None:
            row['gflops'] = count_flops(lambda: runner.model.test_step(batch)) / len(outputs) / 1e9
    failures = [text for text in all_gather_object(failure) if text]    # every process has to know
    if failures:
        return dict(row, metrics={}, images_per_second=None, failure=failures[0])
    metrics = evaluator.evaluate(len(loader.dataset))
    intervals = metrics.pop('intervals', None)
    row['metrics'] = task.read_metrics(metrics, runner.cfg.test_evaluator)
    if intervals:
        row['intervals'] = intervals
    row['images_per_second'] = len(loader.sampler) / seconds
    return row


@contextmanager
def prepared(runner: Runner, method: str, resolution: tuple[int, int], *, token_grid: tuple[int, int] | None = None,
             calibrated: MultiScalePatchEmbed | None = None, degrade: list[dict] | None = None,
             finetuned: dict[str, Tensor] | None = None) -> Iterator[tuple[Any, MultiScalePatchEmbed, tuple[int, int]]]:
    """Within the context, the model of ``runner`` is that of ``method``, in eval mode, without gradients.

    Args:
        runner: With its model loaded.
        method: One of :data:`~mspe_mm.evaluation.methods.METHODS`.
        resolution: (height, width) in pixels that the base resolution becomes; images of another size than the base, and
            sliding windows, change by the same factors.
        token_grid: (rows, columns) to put on the images instead of the base grid.
        calibrated: The layer of the method ``'calibrated'``.
        degrade: How the images lose their resolution, see :class:`~mspe_mm.data.change_resolution.ChangeResolution`; by
            default by the layer's downsampling model.
        finetuned: The state dict of the method ``'finetuned'``.

    Yields:
        The config's ``test_dataloader`` with images as the method gets them, the layer that embeds them, and (height,
        width) of the batch that an image of the base resolution becomes.
    """
    task = task_of(runner.cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    layer = find_patch_embed(model)
    scale = tuple(length / whole for length, whole in zip(resolution, layer.base_resolution))
    restore = restores_image(method)
    loader_cfg = copy.deepcopy(runner.cfg.test_dataloader)
    loader_cfg.dataset.pipeline = transforms.at_resolution(
        loader_cfg.dataset.pipeline, scale=scale, interpolation=layer.downsampling.interpolation,
        antialias=layer.downsampling.antialias, restore=restore, degrade=degrade)
    loader_cfg.persistent_workers = False    # each row has a loader of its own
    model.eval()
    seen = layer.base_resolution if restore else resolution
    with using_method(model, method, calibrated, finetuned) as used, used.force_grid(token_grid), \
            task.scaled_inference(model, (1., 1.) if restore else scale), torch.no_grad():
        yield loader_cfg, used, task.batch_size(model, seen)


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
    return collect_rows([(method, resolution) for method in methods for resolution in resolutions],
                        lambda method, resolution: evaluate(runner, method, resolution, bootstrap, **settings), 'resolution',
                        out_dir, header, task_of(runner.cfg).HEADLINE_METRICS, resume)


def collect_rows(points: list[tuple[str, tuple[int, int]]], measure: Callable[[str, tuple[int, int]], dict], key: str,
                 out_dir: str | Path, header: dict, headline: Sequence[str], resume: bool = False) -> dict:
    """The rows of all ``points``, pairs of a method and a size; every finished row is saved at once.

    Args:
        points: In order.
        measure: Maps a method and a size to a row.
        key: Under which a row has its size.
        out_dir, header, resume: See :func:`sweep`.
        headline: Metrics to print of each row.
    """
    path = Path(out_dir) / 'results.json'
    done = _finished_rows(path, header, key) if resume and path.is_file() else {}
    results = dict(header, rows=[])
    for method, size in points:
        row = done.get((method, *size)) or measure(method, size)
        results['rows'].append(row)
        if is_main_process():
            save_json(results, path)
            metrics = row['metrics']
            figures = '   '.join(f'{name} {number(metrics[name]):>5}' for name in headline if name in metrics)
            figures += f'cannot run: {row["failure"]}' if 'failure' in row else f'   {row["images_per_second"]:.1f} images/s'
            tqdm.write(f'{method:>10} {size[0]:>4} x {size[1]:<4} {figures}')
    return results


def _finished_rows(path: Path, header: dict, key: str) -> dict[tuple, dict]:
    try:
        found = json.loads(path.read_text())
        rows = {(row['method'], *row[key]): row for row in found.pop('rows')}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} cannot be resumed, it is damaged: {error}; remove it or leave out --resume') from error
    for name, value in json.loads(json.dumps(header)).items():
        if found.get(name) != value:
            raise InputError(f'{path} cannot be resumed: its {name} is {found.get(name)}, and this run has {value}; choose '
                             'another --out-dir or leave out --resume')
    return rows
