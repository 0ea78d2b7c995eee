"""RIViT's comparison: all patch embeddings with all position encodings, by one recipe, and the two tables of the report."""
from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from itertools import product

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from prettytable import PrettyTable

from ..cls.rivit import EMBEDDINGS
from ..layers.position import POSITIONS
from .report import number

LABELS = {'patch': 'ViT', 'conv_stem': 'RIViT'}


def variants(cfg: Config) -> list[tuple[str, Config]]:
    """(name, config) of each combination of position encoding and patch embedding."""
    configs = []
    for position, embedding in product(POSITIONS, EMBEDDINGS):
        variant = copy.deepcopy(cfg)
        variant.model.model_kwargs.update(position=position, embedding=embedding)
        configs.append((f'{position}_{embedding}', variant))
    return configs


def accuracy_at(runner: Runner, resolution: int) -> dict:
    """The row of a trained model at ``resolution`` pixels; its test images are resized from the originals."""
    loader_cfg = copy.deepcopy(runner.cfg.test_dataloader)
    loader_cfg.persistent_workers = False
    for step in loader_cfg.dataset.pipeline:
        if step['type'] == 'TimmTransform':
            step['img_size'] = resolution
    loader = runner.build_dataloader(loader_cfg)
    evaluator = runner.build_evaluator(runner.cfg.test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    runner.model.eval()
    start = time.perf_counter()
    with torch.no_grad():
        for batch in loader:
            evaluator.process(data_samples=runner.model.test_step(batch), data_batch=batch)
    seconds = time.perf_counter() - start
    kwargs = runner.cfg.model.model_kwargs
    return dict(position=kwargs.position, embedding=kwargs.embedding, resolution=resolution,
                top1=evaluator.evaluate(len(loader.dataset))['top-1'], images_per_second=len(loader.dataset) / seconds)


def tables(rows: list[dict], resolutions: Sequence[int]) -> list[PrettyTable]:
    """The tables of the report: embeddings at the first resolution (4.1), and all models at all resolutions (4.2)."""
    top1 = {(row['position'], row['embedding'], row['resolution']): row['top1'] for row in rows}
    by_embedding = PrettyTable(['Positional encoding', 'Vanilla patch embedding', 'Convolutional patch embedding'])
    by_resolution = PrettyTable(['Model', *(f'{resolution} px' for resolution in resolutions)])
    for position in POSITIONS:
        by_embedding.add_row([position, *(number(top1.get((position, e, resolutions[0]))) for e in EMBEDDINGS)])
    for embedding, position in product(reversed(EMBEDDINGS), POSITIONS):
        by_resolution.add_row([f'{LABELS[embedding]}, {position}',
                               *(number(top1.get((position, embedding, resolution))) for resolution in resolutions)])
    for table in (by_embedding, by_resolution):
        table.align = 'r'
        table.align[table.field_names[0]] = 'l'
    return [by_embedding, by_resolution]
