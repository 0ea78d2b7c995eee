"""The config that tunes the patch embedding of a stock model, as changes on top of the model's own config."""
from __future__ import annotations

import math

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.resolution import default_kernel_sizes, dense_kernel_sizes
from .config_errors import VALIDATION
from .runner import layer_key
from .stock_config import add_import, with_mspe

IMAGES_SEEN = 12_000
"""Training images that one process sees, with repeats: as many as in the recipe of the generated set (docs/results.md)."""
WARM_UP = 50    # steps
STAGES = 5
"""How often a tuning is validated and saved."""
LEARNING_RATE = 0.01
"""Of kernels with ``parameterization='relative'``: a share of the root mean square of the pretrained kernel. A step of AdamW
changes a weight by about the learning rate, whatever the model; weights of models differ by orders of magnitude."""
VALIDATION_LOOP = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)


def tuning_config(cfg: Config, checkpoint: str) -> Config:
    """The config that tunes the patch embedding of a stock model, by the recipe that was the best in docs/results.md.

    Kernels have context and start from the prior; steps mix resolutions. The data, the batch size and the sampler are those
    of ``cfg``. :func:`fit_to_layer` sets the kernel sizes.

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
    cfg.model.tuning = dict(
        type='MixedResolutionObjective', objective='task+features' if _has_logits(cfg) else 'task', sampling='partition')
    _layer_settings(cfg).parameterization = 'relative'
    for part in (cfg.model, cfg.model.get('backbone') or {}):
        part.update({key: None for key in ('pretrained', 'init_cfg', 'checkpoint') if part.get(key)})    # load_from has all
    _set_schedule(cfg, loader.get('batch_size', 1))
    if cfg.get('val_dataloader'):
        add_import(cfg, VALIDATION)
        cfg.val_cfg = dict(VALIDATION_LOOP)
    cfg.load_from, cfg.resume, cfg.work_dir = checkpoint, False, None
    return cfg


def _has_logits(cfg: Config) -> bool:
    """Whether a model is a segmentor whose head has logits for each pixel: ``'task+features'`` needs its losses of them."""
    head = cfg.model.get('decode_head')
    if not isinstance(head, dict):
        return False
    return MODELS.get(f'{cfg.default_scope}.{head.type}').loss.__qualname__ == 'BaseDecodeHead.loss'


def _set_schedule(cfg: Config, batch_size: int) -> None:
    """AdamW with a linear warm-up and cosine, for as many iterations as see :data:`IMAGES_SEEN`."""
    stage = math.ceil(IMAGES_SEEN / batch_size / STAGES)
    length = stage * STAGES
    cfg.optim_wrapper = dict(
        type='OptimWrapper', constructor='FanInOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=LEARNING_RATE, weight_decay=0., eps=5e-10),
        paramwise_cfg=dict(relative_to_kernel=True), clip_grad=dict(max_norm=1.))
    if cfg.get('auto_scale_lr'):
        cfg.auto_scale_lr.enable = False    # AdamW's rate is not proportional to the batch
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.04, begin=0, end=WARM_UP, by_epoch=False),
        dict(type='CosineAnnealingLR', eta_min=0, begin=0, end=length, by_epoch=False)]
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=length, val_interval=stage)
    cfg.find_unused_parameters = True    # of several processes: one with few images leaves kernels out in a step
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hooks.checkpoint = dict(type='CheckpointHook', interval=stage, by_epoch=False, max_keep_ckpts=1)
    cfg.setdefault('log_processor', ConfigDict()).by_epoch = False
    others = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] != 'AdapterHook']
    cfg.custom_hooks = [*others, dict(type='AdapterHook', interval=stage, by_epoch=False)]


def _layer_settings(cfg: Config) -> ConfigDict:
    """The part of a config that has the settings of its MSPE layer."""
    part = layer_key(cfg).removeprefix('model.')
    if cfg.model.get(part) is None:
        cfg.model[part] = ConfigDict()
    return cfg.model[part]


def fit_to_layer(cfg: Config, layer: MultiScalePatchEmbed) -> None:
    """Set the kernel sizes, which depend on the patch size of the layer, in place.

    Args:
        cfg: A config of :func:`tuning_config`. Kernel sizes other than the default ones stay.
        layer: The layer of its model.
    """
    if layer.kernel_sizes == default_kernel_sizes(layer.patch_size):
        _layer_settings(cfg).kernel_sizes = dense_kernel_sizes(layer.patch_size)


def changes(before: dict, after: dict) -> dict:
    """What a config with ``before`` as its base has to say to become ``after``.

    A key that ``after`` lacks is None at the top of a config, where mmengine cannot delete.
    """
    found = {key: None for key in before if key not in after and before[key] is not None}
    for key, value in after.items():
        old = before.get(key)
        if key in before and old == value:
            continue
        if not isinstance(value, dict) or key not in before:
            found[key] = value
        elif isinstance(old, dict) and old.keys() <= value.keys():
            found[key] = changes(old, value)
        else:
            found[key] = dict(_delete_=True, **value)
    return found
