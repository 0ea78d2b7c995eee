"""Measure on a GPU, in stages that can be resumed, and write docs/performance-gpu.md.

    scripts/gpu_report.sh --out-dir work_dirs/gpu_report                          # all stages
    scripts/gpu_report.sh --out-dir work_dirs/gpu_report --stage vit-bfloat16     # one
    scripts/gpu_report.sh --out-dir work_dirs/rehearsal --tiny                    # tiny models on the CPU

A finished stage leaves STAGE.json in OUT_DIR and is skipped the next time. One that was stopped starts again; trainings and
sweeps continue. The commands of a stage and what they print are in OUT_DIR/STAGE/log.txt. Each call ends by writing the page
from the JSON files.
"""
import argparse
import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import torch

from mspe_mm.benchmark.environment import environment
from mspe_mm.benchmark.gpu_page import write_page
from mspe_mm.benchmark.loss_scaling import compare_loss_scales
from mspe_mm.benchmark.ratios import Settings
from mspe_mm.data.synthetic import write_synthetic
from mspe_mm.errors import InputError
from mspe_mm.evaluation.report import save_json
from mspe_mm.files import replacing
from mspe_mm.models.checkpoint import read_checkpoint, training_seconds
from mspe_mm.runtime import cli
from mspe_mm.runtime.fileio import latest_checkpoint
from mspe_mm.runtime.tool_runs import run_tool
from mspe_mm.shipped import CONFIGS

PAGE = Path(__file__).parents[1] / 'docs/performance-gpu.md'


class Rows(NamedTuple):
    """Rows of tools/benchmark.py."""

    case: str
    network: str
    model: str
    resolution: int
    dtype: str
    batch: int
    compile: bool = False


BENCHMARKS = {
    'vit-bfloat16': Rows('backbone', 'vit', 'large', 512, 'bfloat16', 16),
    'vit-float16': Rows('backbone', 'vit', 'large', 512, 'float16', 16),
    'vit-compiled': Rows('backbone', 'vit', 'large', 512, 'bfloat16', 16, compile=True),
    'vitdet-bfloat16': Rows('backbone', 'vitdet', 'base', 1024, 'bfloat16', 4),
    'vitdet-float16': Rows('backbone', 'vitdet', 'base', 1024, 'float16', 4),
    'vitdet-compiled': Rows('backbone', 'vitdet', 'base', 1024, 'bfloat16', 4, compile=True),
    'tuning-setr': Rows('train-step', 'setr', 'base', 512, 'bfloat16', 4),
    'tuning-vitdet': Rows('train-step', 'vitdet', 'base', 1024, 'bfloat16', 1),
}


class Sizes(NamedTuple):
    """Heights and token grids of the stages on CamVid, as the tools take them."""

    resolutions: tuple
    small: tuple
    """Those of the trade-off."""
    grids: tuple
    vanilla_grids: tuple


SIZES = Sizes((30, 60, 120, 180, 240), (60, 120), ('9x12', '15x20'), ('4x5', '9x12', '15x20'))
TINY_SIZES = Sizes((12, 48), (24, ), ('2x2', '3x4'), ('2x2', '3x4'))

TINY_MODEL = dict(
    data_preprocessor=dict(size=(48, 64)),
    backbone=dict(img_size=(48, 64), embed_dims=32, num_layers=2, num_heads=2, out_indices=(1, )),
    decode_head=dict(in_channels=32, channels=32))


@dataclass(frozen=True)
class Job:
    """Where the stages run, and on what.

    Args:
        out_dir: Folder for everything that the stages write.
        data: Folder of CamVid.
        peer_path: Checkout of mmdetection with projects/ViTDet, or None.
        tiny: Whether to rehearse with tiny models on the CPU.
    """

    out_dir: Path
    data: Path
    peer_path: Optional[str]
    tiny: bool

    @property
    def device(self):
        return 'cpu' if self.tiny else 'cuda'

    @property
    def amp(self):
        """The option of a training in mixed precision, which mmengine has on a GPU only."""
        return [] if self.tiny else ['--amp']

    @property
    def sizes(self):
        return TINY_SIZES if self.tiny else SIZES

    def file(self, stage):
        return self.out_dir / f'{stage}.json'

    def folder(self, stage):
        folder = self.out_dir / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def result(self, stage):
        if not self.file(stage).is_file():
            raise InputError(f'{self.file(stage)} does not exist: run the stage {stage} before')
        return json.loads(self.file(stage).read_text())

    def run_tool(self, stage, tool, *args):
        run_tool(self.folder(stage) / 'log.txt', tool, *args)

    def recipe(self, name, load_from=None):
        """A config of the repository with the data of this job, and in a rehearsal a tiny model: its path."""
        workers = 0 if self.tiny else min(8, os.cpu_count())
        data = dict(data_root=str(self.data.resolve()), **(dict(img_suffix='.png') if self.tiny else {}))
        loader = dict(num_workers=workers, persistent_workers=workers > 0, dataset=data)
        settings = dict(train_dataloader=loader, val_dataloader=dict(loader, batch_size=16),
                        test_dataloader=dict(loader, batch_size=16), load_from=load_from)
        if self.tiny:
            load, annotate, pack = (dict(type=kind) for kind in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs'))
            resize = dict(type='Resize', scale=(64, 48), keep_ratio=True)
            measured = dict(loader, batch_size=16, dataset=dict(data, pipeline=[load, resize, annotate, pack]))
            settings.update(
                model=dict(TINY_MODEL), train_cfg=dict(max_epochs=1, val_interval=1), param_scheduler=[],
                default_hooks=dict(checkpoint=dict(interval=1)),
                train_dataloader=dict(loader, batch_size=4, dataset=dict(data, pipeline=[load, annotate, pack])),
                val_dataloader=measured, test_dataloader=measured)
            if name == 'setr_budgets_camvid':
                settings['model']['backbone'] = dict(TINY_MODEL['backbone'], token_grids=[(2, 2)])
        path = self.out_dir / f'configs/{name}.py'
        with replacing(path) as temporary:
            Path(temporary).write_text(f'_base_ = {str(CONFIGS / name)!r} + ".py"\n' + ''.join(
                f'{key} = {value!r}\n' for key, value in settings.items()))
        return path


def benchmark(job, stage):
    """Rows of tools/benchmark.py."""
    rows, folder = BENCHMARKS[stage], job.folder(stage)
    resolution = 32 if job.tiny else rows.resolution
    options = ['--networks', rows.network, '--models', 'micro' if job.tiny else rows.model, '--resolutions', resolution,
               *(['--base-resolution', resolution] if rows.case == 'backbone' else []), '--device', job.device,
               '--out-dir', folder]
    if job.tiny:    # a CPU has no float16 here, and compiling on it takes minutes
        options += ['--dtype', 'bfloat16', '--batch-size', 1, '--repeats', 1, '--no-memory']
    else:
        options += ['--dtype', rows.dtype, '--batch-size', rows.batch, *(['--compile'] if rows.compile else [])]
    if rows.network == 'vitdet' and job.peer_path:
        options += ['--peer-path', job.peer_path]
    job.run_tool(stage, 'benchmark.py', rows.case, *options)
    return json.loads((folder / 'results.json').read_text())


def train(job, stage, recipe, starts_from=None):
    """A training on CamVid by tools/train.py: its time, memory, loss scale and skipped steps."""
    if job.tiny:
        write_synthetic(job.data, 8, 4, (48, 64))
    if not job.data.is_dir():
        raise InputError(f'{job.data} does not exist: give the folder of CamVid by --data')
    config = job.recipe(recipe, job.result(starts_from)['checkpoint'] if starts_from else None)
    folder = job.folder(stage)
    job.run_tool(stage, 'train.py', config, '--work-dir', folder, '--resume', *job.amp)
    checkpoint = latest_checkpoint(folder)
    contents = read_checkpoint(checkpoint)
    scalars = contents['message_hub']['log_scalars']
    logged = [json.loads(line) for path in sorted(folder.glob('*/vis_data/scalars.json'))
              for line in path.read_text().splitlines()]
    scale, skipped = (scalars[f'train/{name}'].data[0] if f'train/{name}' in scalars else None
                      for name in ('loss_scale', 'skipped'))
    return dict(recipe=recipe, checkpoint=checkpoint, adapter=str(folder / 'adapter.safetensors') if starts_from else None,
                steps=contents['meta']['iter'], seconds=training_seconds(scalars),
                memory=max((line['memory'] for line in logged if 'memory' in line), default=None),
                loss_scale=None if scale is None else float(scale[-1]),
                skipped=None if skipped is None else int(skipped.sum()))


def sweep(job, stage):
    """All methods at several resolutions, by tools/eval_multiscale.py."""
    return measure(job, stage, 'camvid-tuning', stage, '--resolutions', *job.sizes.resolutions,
                   '--methods', 'vanilla', 'img_resize', 'flexivit', 'mspe')


def trade_off(job, stage):
    """Metric and cost over (resolution, token grid): the stock model at smaller inputs, enlarged inputs, and ours."""
    found = measure(job, stage, 'camvid-budgets', f'{stage}/vanilla', '--token-grid', *job.sizes.vanilla_grids,
                    '--methods', 'vanilla')
    for height in job.sizes.small:
        found['rows'] += measure(job, stage, 'camvid-budgets', f'{stage}/{height}', '--resolutions', height,
                                 '--token-grid', *job.sizes.grids, '--methods', 'img_resize', 'mspe')['rows']
    return found


def measure(job, stage, tuning, folder, *options):
    """Run tools/eval_multiscale.py with the adapter of the stage ``tuning``; returns its results."""
    tuned, out = job.result(tuning), job.out_dir / folder
    base = job.result('camvid-training')['checkpoint']
    job.run_tool(stage, 'eval_multiscale.py', job.recipe(tuned['recipe'], base), base, '--adapter', tuned['adapter'],
                 '--amp', '--resume', '--out-dir', out, *options)
    return json.loads((out / 'results.json').read_text())


def loss_scaling(job, _):
    """Kernels tuned in bfloat16 and float16 against those tuned in float32."""
    settings = Settings(job.device, batch_size=2)
    size, base, steps = ('micro', 32, 2) if job.tiny else ('base', 512, 100)
    return dict(size=size, base=base, batch_size=settings.batch_size, rows=compare_loss_scales(settings, size, base, steps),
                environment=environment(job.device))


STAGES = {
    **dict.fromkeys(BENCHMARKS, benchmark),
    'camvid-training': partial(train, recipe='setr_camvid'),
    'camvid-tuning': partial(train, recipe='setr_mspe_5e_camvid', starts_from='camvid-training'),
    'camvid-sweep': sweep,
    'camvid-budgets': partial(train, recipe='setr_budgets_camvid', starts_from='camvid-training'),
    'trade-off': trade_off,
    'loss-scaling': loss_scaling,
}


def parse_args():
    parser = argparse.ArgumentParser(description='Measure on a GPU, in stages that can be resumed', parents=[cli.TRUST])
    parser.add_argument('--out-dir', default='work_dirs/gpu_report', help='folder for all results; default %(default)s')
    parser.add_argument('--stage', nargs='+', choices=['all', *STAGES], default=['all'], metavar='STAGE',
                        help=f'all, or any of {", ".join(STAGES)}; default all')
    parser.add_argument('--data', default='data/camvid', help='folder of CamVid; default %(default)s')
    parser.add_argument('--peer-path', metavar='FOLDER',
                        help='checkout of mmdetection with projects/ViTDet; without one the peer is a naive ViTDet')
    parser.add_argument('--page', help='page to write; default docs/performance-gpu.md, with --tiny in OUT_DIR')
    parser.add_argument('--tiny', action='store_true', help='rehearse with tiny models on the CPU')
    return parser.parse_args()


def main():
    args = parse_args()
    if not (args.tiny or torch.cuda.is_available()):
        raise InputError('PyTorch sees no GPU: run this on a machine with one, or add --tiny for a rehearsal on the CPU')
    out_dir = Path(args.out_dir).resolve()
    page = Path(args.page or (out_dir / PAGE.name if args.tiny else PAGE))
    job = Job(out_dir, out_dir / 'data' if args.tiny else Path(args.data), args.peer_path, args.tiny)
    failures = []
    for stage in STAGES if 'all' in args.stage else args.stage:
        if job.file(stage).is_file():
            print(f'{stage}: done, in {job.file(stage)}')
            continue
        print(f'{stage}: running')
        try:
            save_json(STAGES[stage](job, stage), job.file(stage))
        except InputError as error:    # the other stages still run
            failures.append(f'{stage}: {error}')
            print(f'{stage}: {error}', file=sys.stderr)
    found = {stage: job.result(stage) for stage in STAGES if job.file(stage).is_file()}
    write_page(found, STAGES, page, environment(job.device), args.tiny)
    print(f'written to {page}')
    if failures:
        raise InputError(f'{len(failures)} stages failed; the first is {failures[0]}')


if __name__ == '__main__':
    cli.run(main)
