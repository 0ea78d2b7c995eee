"""timm's classifiers as models of mmengine's runner, and with the MSPE layer."""
from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import timm
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from ..core import MultiScalePatchEmbed, convert_patch_embed, freeze_all_but_kernels, tuning_mode
from ..core.adapter import find_patch_embed
from ..core.budget import build_objective, trains_kernels_alone
from ..core.distillation import distillation_loss, logit_distance, require_annotations
from ..core.multi_resolution import MultiResolutionTraining
from ..errors import InputError


@MODELS.register_module()
class TimmClassifier(BaseModel):
    """A timm model with cross entropy, to be trained and tested by mmengine's runner.

    Mean, standard deviation and head are the model's own. A checkpoint of timm loads by ``load_from`` as it is.

    Args:
        timm_name: The model's name in timm, with a tag the name of its weights: ``'vit_base_patch16_224.augreg_in1k'``.
        pretrained: Load the weights that the name stands for from the hub.
        checkpoint: File of weights to load by timm (``.pth``, ``.safetensors``, ``.npz``), instead of the hub's.
        model_kwargs: Further arguments of ``timm.create_model``: ``num_classes``, ``img_size``, ``drop_path_rate``, ...
        resolutions: Train at each of these resolutions in pixels, in every step, instead of at that of the images.
        data_preprocessor: By default ``ImgDataPreprocessor`` with the model's mean and standard deviation.
        init_cfg: mmengine's.

    Raises:
        InputError: If timm does not know the name or cannot make or load the model.
    """

    checkpoint_prefix = 'backbone.'
    """What the names of a timm checkpoint lack."""

    def __init__(self,
                 timm_name: str,
                 pretrained: bool = False,
                 checkpoint: str | None = None,
                 model_kwargs: dict | None = None,
                 resolutions: Sequence[int | tuple[int, int]] | None = None,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        backbone = create_timm_model(timm_name, pretrained, checkpoint, **(model_kwargs or {}))
        if data_preprocessor is None:
            config = resolve_model_data_config(backbone)
            data_preprocessor = dict(
                type='ImgDataPreprocessor', **{key: [255 * value for value in config[key]] for key in ('mean', 'std')})
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = backbone
        self.multi_resolution = resolutions and MultiResolutionTraining(resolutions)

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return self.backbone.num_classes

    def init_weights(self) -> None:
        """Nothing: timm has initialised or loaded the weights, and mmengine would have it draw them anew."""

    def forward(self, inputs: Tensor, data_samples: list[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Tensor | dict | list[BaseDataElement]:
        """mmengine's three modes.

        Args:
            inputs: (B, C, H, W) normalised images.
            data_samples: With ``gt_label``, whole numbers; not needed for ``'tensor'``.
            mode: ``'tensor'``, ``'loss'`` or ``'predict'``.

        Returns:
            Logits (B, classes); losses by name; or ``data_samples`` with ``pred_score`` (classes), on the CPU.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        logits = self.backbone(inputs)
        if mode == 'tensor':
            return logits
        for sample, scores in zip(data_samples, logits.float().softmax(dim=1).cpu()):    # one copy for all
            sample.pred_score = scores
        return data_samples

    def loss(self, inputs: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        """Cross entropy of the images (B, C, H, W), by resolution if there are several."""
        def plain_loss(images: Tensor) -> dict[str, Tensor]:
            return classification_loss(self.backbone(images), data_samples)

        return self.multi_resolution(inputs, plain_loss) if self.multi_resolution else plain_loss(inputs)


@MODELS.register_module()
class MSPEClassifier(TimmClassifier):
    """A timm transformer with the MSPE layer, its freezing and its multi-resolution objective.

    Args:
        timm_name, pretrained, checkpoint: See :class:`TimmClassifier`.
        model_kwargs: Likewise; where the model takes ``img_size``, that is the base resolution.
        patch_embed: ``dict(base_resolution=..., kernel_sizes=..., ...)`` of :func:`~mspe_mm.core.convert_patch_embed`. The
            base resolution is by default the model's image size, or where it has none that of the weights of its name.
        tuning: ``dict(objective=..., base_weight=..., sampling=..., aspect_jitter=...)`` of
            :class:`~mspe_mm.core.MultiResolutionObjective`; ``dict()`` takes the defaults. Without labels
            ``objective='distill'``: the logits are compared. Or ``dict(token_grids=..., freeze=...)`` of
            :class:`~mspe_mm.core.budget.TokenGridObjective`. With None all weights train, as those of a
            :class:`TimmClassifier` do.
        **kwargs: Of :class:`TimmClassifier`.

    Raises:
        InputError: If the model cannot be given the layer, saying why.
    """

    def __init__(self,
                 timm_name: str,
                 *,
                 model_kwargs: dict | None = None,
                 patch_embed: dict | None = None,
                 tuning: dict | None = None,
                 **kwargs) -> None:
        super().__init__(timm_name, model_kwargs=model_kwargs, **kwargs)
        base = (model_kwargs or {}).get('img_size') or resolve_model_data_config(self.backbone)['input_size'][1:]
        convert_patch_embed(self.backbone, **{'base_resolution': base, **(patch_embed or {})})
        if tuning is not None and self.multi_resolution:
            raise InputError('model.tuning trains the patch kernels and model.resolutions everything: give one of them')
        self.tuning = None if tuning is None else build_objective(tuning)
        self.objective = 'task' if tuning is None else self.tuning.objective
        self.freezes = tuning is not None and trains_kernels_alone(self.tuning)
        if self.freezes:
            freeze_all_but_kernels(self, self.mspe_layer)

    @property
    def mspe_layer(self) -> MultiScalePatchEmbed:
        """The patch embedding, wherever the model keeps it."""
        return find_patch_embed(self.backbone)

    def train(self, mode: bool = True) -> MSPEClassifier:
        super().train(mode)
        if mode and self.freezes:
            tuning_mode(self, self.mspe_layer)
        return self

    def loss(self, inputs: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        """Cross entropy, or with ``tuning`` the losses of its objective.

        Args:
            inputs: (B, C, H, W) images at the base resolution.
            data_samples: Their labels.
        """
        if self.tuning is None:
            return super().loss(inputs, data_samples)
        require_annotations(self.objective, all('gt_label' in sample for sample in data_samples))
        plain_loss, layer = super().loss, self.mspe_layer
        if self.objective == 'task':
            return self.tuning(layer, inputs, lambda images: plain_loss(images, data_samples))

        def comparable(images: Tensor) -> tuple[Tensor, Callable[[], dict]]:
            logits = self.backbone(images)
            return logits, lambda: classification_loss(logits, data_samples)

        return self.tuning(layer, inputs, distillation_loss(
            layer, inputs, comparable, logit_distance, self.objective == 'both'))


def classification_loss(logits: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
    """Cross entropy of logits (B, classes)."""
    labels = torch.tensor([sample.gt_label for sample in data_samples], device=logits.device)
    return dict(loss=F.cross_entropy(logits, labels))


def create_timm_model(name: str, pretrained: bool = False, checkpoint: str | None = None, **kwargs) -> nn.Module:
    """``timm.create_model``, whose errors become one sentence; models that can take any token grid do.

    Raises:
        InputError: Naming what timm does not know or cannot load.
    """
    if not timm.is_model(name.partition('.')[0]):
        near = difflib.get_close_matches(name.partition('.')[0], timm.list_models(), n=1)
        raise InputError(f'timm {timm.__version__} has no model {name!r}: '
                         + (f'did you mean {near[0]!r}?' if near else 'timm.list_models() lists its names'))
    kwargs.update(pretrained=pretrained and checkpoint is None, checkpoint_path=checkpoint)
    try:
        try:
            return timm.create_model(name, **{'dynamic_img_size': True, **kwargs})
        except TypeError:    # the model has no such choice
            return timm.create_model(name, **kwargs)
    except Exception as error:    # timm and the hub raise all kinds
        what = f'{name} with the weights of {checkpoint}' if checkpoint else name
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise InputError(f'timm cannot make {what}: {reason[:300]}') from error
