"""The config that tunes the patch embedding of a stock model, as changes on top of the model's own config."""
from __future__ import annotations

import math

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from ..errors import InputError
from .config_errors import VALIDATION
from .stock_config import add_import, with_mspe

EPOCHS = 5
IMAGES_SEEN = EPOCHS * 20210
"""Training images of the paper's five epochs of ADE20K, for data sets that are read without epochs."""
LEARNING_RATE, BATCH_SIZE = 1e-3, 64
"""The paper's; mmengine scales the learning rate with the batch."""
VALIDATION_LOOP = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)


def tuning_config(cfg: Config, checkpoint: str) -> Config:
    """The config that tunes the patch embedding of a stock model, by the paper's schedule.

    The data, the batch size and the sampler are those of ``cfg``. A sampler without epochs (``InfiniteSampler``, mmseg's)
    gets a schedule of iterations that sees as many images as the paper's.

    Args:
        cfg: The config that the model was trained with.
        checkpoint: Its weights.

    Raises:
        InputError: As :func:`with_mspe`, or if the config has no training data.
    """
    cfg = with_mspe(cfg)
    loader = cfg.get('train_dataloader')
    if not loader:
        raise InputError(f'{cfg.filename or "the config"} has no train_dataloader: give the config that the model '
                         'was trained with')
    cfg.model.tuning = dict(objective='both' if _has_logits(cfg) else 'task')
    for part in (cfg.model, cfg.model.get('backbone') or {}):
        part.update({key: None for key in ('pretrained', 'init_cfg', 'checkpoint') if part.get(key)})    # load_from has all
    _set_schedule(cfg, (loader.get('sampler') or {}).get('type') != 'InfiniteSampler', loader.get('batch_size', 1))
    if cfg.get('val_dataloader'):
        add_import(cfg, VALIDATION)
        cfg.val_cfg = dict(VALIDATION_LOOP)
    cfg.load_from, cfg.resume, cfg.work_dir = checkpoint, False, None
    return cfg


def _has_logits(cfg: Config) -> bool:
    """Whether a model is a segmentor whose head has logits that can be compared with a teacher's."""
    head = cfg.model.get('decode_head')
    if not isinstance(head, dict):
        return False
    return MODELS.get(f'{cfg.default_scope}.{head.type}').loss.__qualname__ == 'BaseDecodeHead.loss'


def _set_schedule(cfg: Config, by_epoch: bool, batch_size: int) -> None:
    """SGD, linear warm-up and cosine over :data:`EPOCHS`, or over the iterations of :data:`IMAGES_SEEN`."""
    length = EPOCHS if by_epoch else math.ceil(IMAGES_SEEN / batch_size)
    epoch = 1 if by_epoch else max(1, length // EPOCHS)
    cfg.optim_wrapper = dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4))
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=BATCH_SIZE)
    unit = dict(by_epoch=True, convert_to_iter_based=True) if by_epoch else dict(by_epoch=False)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, begin=0, end=epoch, **unit),
        dict(type='CosineAnnealingLR', eta_min=0, begin=epoch, end=length, **unit)]
    loop = dict(type='EpochBasedTrainLoop', max_epochs=length) if by_epoch else dict(
        type='IterBasedTrainLoop', max_iters=length)
    cfg.train_cfg = dict(loop, val_interval=epoch)
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hooks.checkpoint = dict(type='CheckpointHook', interval=epoch, by_epoch=by_epoch, max_keep_ckpts=1)
    cfg.setdefault('log_processor', ConfigDict()).by_epoch = by_epoch
    others = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] != 'AdapterHook']
    cfg.custom_hooks = [*others, dict(type='AdapterHook', interval=epoch, by_epoch=by_epoch)]


def changes(before: dict, after: dict) -> dict:
    """What a config with ``before`` as its base has to say to become ``after``.

    A key that ``after`` lacks is None at the top of a config, where mmengine cannot delete.
    """
    found = {key: None for key in before if key not in after and before[key] is not None}
    for key, value in after.items():
        old = before.get(key)
        if key in before and old == value:
            continue
        if not (isinstance(old, dict) and isinstance(value, dict)):
            found[key] = value
        elif old.keys() <= value.keys():
            found[key] = changes(old, value)
        else:
            found[key] = dict(_delete_=True, **value)
    return found
