"""Measuring every method at every resolution."""
from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.data
from mmengine.dist import all_gather_object, is_main_process
from mmengine.model import is_model_wrapper
from torch import Tensor
from tqdm import tqdm

from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import find_patch_embed
from .flops import count_flops
from .methods import may_fail, restores_image, trained_parameters, using_method
from .rows import collect_rows
from .tasks import task_of

if TYPE_CHECKING:    # mmengine's runner imports OpenCV
    from mmengine.runner import Runner


class CannotRun(Exception):  # noqa: N818  an outcome of a measurement
    """A model cannot take the token grid of a resolution."""


def evaluate(runner: Runner, method: str, resolution: tuple[int, int], bootstrap: int = 0, warm_up: bool = False,
             **settings: Any) -> dict:
    """Measure one row: ``method`` on the test set, with images at ``resolution``.

    Args:
        runner: A runner whose model is loaded. ``test_dataloader`` and ``test_evaluator`` of its config are used.
        method: One of :data:`~mspe_mm.evaluation.methods.METHODS`.
        resolution: See :func:`prepared`.
        bootstrap: Number of resamples for 95% intervals over images; 0 for none.
        warm_up: Whether to run the first batch once before it is timed. A compiled model is compiled then.
        **settings: Settings of :func:`prepared`. With a ``token_grid``, floating-point operations are counted.

    Returns:
        ``{'method', 'resolution', 'metrics', 'images_per_second', 'token_grid', 'kernel_size', 'trained_parameters'}``,
        ``'intervals'`` with ``bootstrap``, and ``'gflops'`` of one image with ``token_grid``. ``images_per_second`` counts
        the time of the model, from the collated batch to the predictions. If the model cannot run at ``resolution``,
        ``'metrics'`` is empty, ``'images_per_second'`` is None and ``'failure'`` is the host's message.

    The row says that the model cannot run only if all of these conditions hold; every other error is raised. The method
    changes the token grid with the size of images (:func:`~mspe_mm.evaluation.methods.may_fail`, ``'img_resize'``), and the
    size that the model embeds is not the base resolution. The error is an AssertionError, RuntimeError or ValueError, not of
    a subclass: hosts refuse sizes by these. No batch of the same size has run before. The same method runs on the same
    images at the base resolution. The traceback is logged.
    """
    task, failure = task_of(runner.cfg), None
    with prepared(runner, method, resolution, **settings) as (loader_cfg, layer, batch_size):
        loader = runner.build_dataloader(loader_cfg)
        evaluator = runner.build_evaluator(task.evaluator_config(runner.cfg.test_evaluator, bootstrap))
        evaluator.dataset_meta = loader.dataset.metainfo
        model = _bare(runner.model)
        embedded = embedded_size(layer, method, resolution, settings.get('token_grid'))
        fails_by_size = (may_fail(method) or restores_image(method)) and embedded != layer.base_resolution
        row = dict(method=method, resolution=list(resolution), token_grid=list(layer.token_grid(batch_size)),
                   kernel_size=list(layer.kernel_size(batch_size)), trained_parameters=trained_parameters(model, method))
        try:
            seconds = 0.
            for batch, outputs, duration in _predictions(runner, loader, f'{method} {resolution[0]} x {resolution[1]}',
                                                         warm_up, fails_by_size):
                seconds += duration
                evaluator.process(data_samples=outputs, data_batch=batch)
            if settings.get('token_grid'):
                row['gflops'] = count_flops(lambda: runner.model.test_step(batch)) / len(outputs) / 1e9
        except CannotRun as error:
            failure = error
    failures = [text for text in all_gather_object(str(failure) if failure else None) if text]    # of all processes
    if failures:
        if not all(all_gather_object(_runs_at_base(runner, method, layer.base_resolution, settings))):
            raise failure.__cause__ if failure else RuntimeError(failures[0])
        if failure:
            runner.logger.error(f'{method} cannot run at {resolution[0]} x {resolution[1]}, and runs on the same images at '
                                'the base resolution:\n' + ''.join(traceback.format_exception(failure.__cause__)))
        return dict({key: value for key, value in row.items() if key != 'gflops'}, metrics={}, images_per_second=None,
                    failure=failures[0])
    metrics = evaluator.evaluate(len(loader.dataset))
    intervals = metrics.pop('intervals', None)
    row['metrics'] = task.read_metrics(metrics, runner.cfg.test_evaluator)
    if intervals:
        row['intervals'] = intervals
    row['images_per_second'] = len(loader.sampler) / seconds
    return row


def _predictions(runner: Runner, loader: torch.utils.data.DataLoader, title: str, warm_up: bool,
                 fails_by_size: bool) -> Iterator[tuple[dict, Sequence, float]]:
    """Batches, the model's outputs and the seconds that it took.

    Raises:
        CannotRun: From the host's error, if images of a size that has not run before fail and ``fails_by_size``.
    """
    seen = set()
    for batch in tqdm(loader, desc=title, leave=False, unit='batch',
                      disable=None if is_main_process() else True):    # None: a bar on terminals, none in logs
        sizes = frozenset(tuple(image.shape[-2:]) for image in batch['inputs'])
        try:
            if warm_up:
                runner.model.test_step(copy.deepcopy(batch))
                warm_up = False
            start = now()
            outputs = runner.model.test_step(batch)
            duration = now() - start
        except (AssertionError, RuntimeError, ValueError) as error:
            if not fails_by_size or sizes in seen or not can_be_of_size(error):
                raise
            raise CannotRun(' '.join(str(error).split()) or type(error).__name__) from error
        seen.add(sizes)
        yield batch, outputs, duration


def can_be_of_size(error: Exception) -> bool:
    """Whether hosts refuse a size by such an error: an AssertionError, RuntimeError or ValueError, not of a subclass.

    Errors of memory, recursion, missing operations and bad input are of subclasses.
    """
    return type(error) in (AssertionError, RuntimeError, ValueError)


def _runs_at_base(runner: Runner, method: str, base: tuple[int, int], settings: Mapping[str, Any]) -> bool:
    """Whether the first images of the test set, at the base resolution and by the same method, run."""
    try:
        with prepared(runner, method, base, **{**settings, 'token_grid': None}) as (loader_cfg, _, _):
            runner.model.test_step(next(iter(runner.build_dataloader(loader_cfg))))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    return model.module if is_model_wrapper(model) else model


@contextmanager
def prepared(runner: Runner, method: str, resolution: tuple[int, int], *, token_grid: tuple[int, int] | None = None,
             calibrated: MultiScalePatchEmbed | None = None, degrade: list[dict] | None = None,
             finetuned: dict[str, Tensor] | None = None) -> Iterator[tuple[Any, MultiScalePatchEmbed, tuple[int, int]]]:
    """Within the context, the model of ``runner`` embeds by ``method``, and gradients are off.

    The model is changed meanwhile, see :func:`~mspe_mm.evaluation.methods.using_method`; it stays in eval mode afterwards.

    Args:
        runner: A runner whose model is loaded.
        method: One of :data:`~mspe_mm.evaluation.methods.METHODS`.
        resolution: (height, width) in pixels that the base resolution is resized to. Images of other sizes, and sliding
            windows, are resized by the same factors.
        token_grid: (rows, columns) of tokens; default the base grid. ``'img_resize'`` enlarges images until they have it.
        calibrated: The layer of the method ``'calibrated'``.
        degrade: Pipeline that lowers the resolution, see :class:`~mspe_mm.data.change_resolution.ChangeResolution`; default
            one resize by the layer's downsampling model.
        finetuned: The state dict of the method ``'finetuned'``.

    Yields:
        The config of a dataloader of images at ``resolution``, the layer that embeds them, and (height, width) in pixels of
        a batch of images whose size was the base resolution.
    """
    from ..data.change_resolution import at_resolution  # imports OpenCV

    task = task_of(runner.cfg)
    model = _bare(runner.model)
    layer = find_patch_embed(model)
    embedded = embedded_size(layer, method, resolution, token_grid)
    scale, embedded_scale = (tuple(length / whole for length, whole in zip(size, layer.base_resolution))
                             for size in (resolution, embedded))
    loader_cfg = copy.deepcopy(runner.cfg.test_dataloader)
    loader_cfg.dataset.pipeline = at_resolution(
        loader_cfg.dataset.pipeline, scale=scale, interpolation=layer.downsampling.interpolation,
        antialias=layer.downsampling.antialias, degrade=degrade,
        restore=embedded_scale if restores_image(method) else False)
    loader_cfg.persistent_workers = False    # the loader serves one row
    model.eval()
    with using_method(model, method, calibrated, finetuned) as used, used.force_grid(token_grid), \
            task.scaled_inference(model, embedded_scale), torch.no_grad():
        yield loader_cfg, used, task.batch_size(model, embedded)


def embedded_size(layer: MultiScalePatchEmbed, method: str, resolution: tuple[int, int],
                  token_grid: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) in pixels at which ``method`` hands images of ``resolution`` to the model.

    ``'img_resize'`` enlarges them until the stock patches make ``token_grid``, by default the base grid.
    """
    return layer.stock_size(token_grid or layer.grid_size) if restores_image(method) else tuple(resolution)


def now() -> float:
    """Seconds of a clock, once the GPU has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def sweep(runner: Runner, methods: list[str], resolutions: list[tuple[int, int]], out_dir: str | Path, header: dict,
          bootstrap: int = 0, resume: bool = False, digests: Mapping[str, str] | None = None, **settings: Any) -> dict:
    """Rows of all methods at all resolutions. Every finished row is saved to ``out_dir/results.json`` at once.

    Args:
        runner: See :func:`evaluate`.
        methods: Methods to run.
        resolutions: (height, width) of each.
        out_dir: Folder of ``results.json``.
        header: Entries of the file that precede the rows and identify the run. ``'digests'`` are those of
            :func:`~mspe_mm.evaluation.run_identity.run_digests`.
        bootstrap: See :func:`evaluate`.
        resume: Whether to keep the rows of an existing ``results.json``, those of other methods and resolutions too.
        digests: :func:`~mspe_mm.evaluation.run_identity.method_digests`. Rows of a method with another digest are not kept.
        **settings: Settings of :func:`prepared`, and ``warm_up`` of :func:`evaluate`.

    Raises:
        InputError: If a method or resolution is repeated, or the file to be resumed is damaged or of another run.
    """
    return collect_rows([(method, resolution) for method in methods for resolution in resolutions],
                        lambda method, resolution: evaluate(runner, method, resolution, bootstrap, **settings), 'resolution',
                        out_dir, header, task_of(runner.cfg).HEADLINE_METRICS, resume, digests)
