"""The mixin of the models of all hosts: the MSPE layer, freezing, and the losses of a training step."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.adapter_on_load import AdapterOnLoad
from ..models.convert import convert_patch_embed, following_base
from ..models.find import has_patch_embed, patch_embed_name
from .distillation import distillation_loss, feature_distance, logit_distance
from .early_backward import Losses
from .factory import Objective, build_objective
from .freezing import freeze_all_but_kernels, tuning_mode
from .full_training import MultiResolutionTraining


class Outputs(NamedTuple):
    """The results of one forward pass of a host's model on a batch of images.

    Attributes:
        compared: The outputs in which student and teacher are compared: logits, or the features of several levels.
        context: All else that :meth:`TunedModel.losses_from` needs for the host's losses of the same pass.
        features: What the heads saw in this pass, for the objective ``'task+features'``.
    """

    compared: Any
    context: Any = None
    features: Sequence[Tensor] = ()


if TYPE_CHECKING:
    class _Host(nn.Module):
        """The part of the host's class that the mixin uses."""

        backbone: nn.Module

        def init_weights(self) -> None: ...

        def data_preprocessor(self, data: dict, training: bool) -> dict: ...

        def test_step(self, data: Any) -> Any: ...

        def loss(self, inputs: Tensor, data_samples: Any) -> Losses: ...
else:
    _Host = object


class TunedModel(_Host):
    """A mixin that gives a host's model the MSPE layer and tunes it.

    A host composes it before its own class and adds two methods, :meth:`outputs` and :meth:`losses_from`::

        class MyModel(TunedModel, HostModel):
            def outputs(self, images): ...
            def losses_from(self, outputs, data_samples): ...

    The host's class is an ``nn.Module`` with a ``backbone``, ``train(mode)``, ``init_weights()`` and
    ``loss(inputs, data_samples)``, which returns its losses by name.

    Args:
        tuning: Settings of the objective that tunes the patch kernels, see
            :func:`~mspe_mm.tuning.factory.build_objective`; ``dict()`` takes the defaults. With None all weights train, as
            those of the host's model do.
        patch_embed: ``dict(base_resolution=..., kernel_sizes=..., ...)`` of
            :func:`~mspe_mm.models.convert.convert_patch_embed`, to give a stock backbone the MSPE layer. With None the
            backbone has to have one.
        resolutions: Train all weights at each of these resolutions in pixels, in every step, instead of at that of the
            images (ResFormer's training). With ``kernel_policy='constant'`` tokens follow the image, as there.
        adapter: File of tuned patch kernels to load whenever the weights are loaded, see
            :class:`~mspe_mm.models.adapter_on_load.AdapterOnLoad`. So a stock checkpoint and an adapter are enough for
            whoever loads the model by its config.
        *args: The host's.
        **kwargs: The host's.

    Attributes:
        tuning: The objective, or None.
        full_training: What trains all weights at several resolutions, or None.
        adapter: What loads the adapter, or None.

    Raises:
        InputError: If the backbone has no MSPE layer and cannot be given one, for two ways of training at once, or for an
            adapter that is missing, damaged or of another layer.
    """

    distance: Callable[[Any, Any], Tensor] = staticmethod(logit_distance)
    """The distance between the ``compared`` outputs of a student and of the teacher: a scalar."""
    teacher_follows_grid = False
    """See :func:`~mspe_mm.tuning.distillation.distillation_loss`."""

    def __init__(self, *args: Any, tuning: Mapping | None = None, patch_embed: Mapping | None = None,
                 resolutions: Sequence[int | tuple[int, int]] | None = None, adapter: str | None = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.convert_backbone(patch_embed)
        if tuning is not None and resolutions:
            raise InputError('tuning trains the patch kernels and resolutions everything: give one of them')
        self._layer_name = patch_embed_name(self.backbone)
        self.tuning = None if tuning is None else build_objective(tuning)
        downsampling = self.mspe_layer.downsampling
        self.full_training = resolutions and MultiResolutionTraining(
            resolutions, downsampling.interpolation, downsampling.antialias)
        if self.freezes:
            freeze_all_but_kernels(self, self.mspe_layer)
        self.adapter = AdapterOnLoad(self.mspe_layer, adapter) if adapter else None

    def convert_backbone(self, patch_embed: Mapping | None) -> None:
        """Give the backbone its MSPE layer, if ``patch_embed`` has the settings of one."""
        if patch_embed is not None:
            convert_patch_embed(self.backbone, **patch_embed)
        elif not has_patch_embed(self.backbone):
            raise InputError(f'{type(self).__name__} needs a backbone with an MSPE layer, and '
                             f'{type(self.backbone).__name__} has none: give patch_embed=dict(base_resolution=...) to '
                             'convert it, or take a backbone of mspe_mm')

    def outputs(self, images: Tensor) -> Outputs:
        """A forward pass of the host's model on images (B, C, h, w), up to the outputs that are compared."""
        raise NotImplementedError(f'{type(self).__name__} cannot be compared with a teacher')

    def head_inputs(self, images: Tensor) -> Sequence[Tensor]:
        """What the heads see of images (B, C, h, w): levels (B, D, rows, columns), or tokens (B, N, D)."""
        return self.extract_feat(images)    # type: ignore[operator]    # mmseg's and mmdet's

    def losses_from(self, outputs: Outputs, data_samples: Any) -> Losses:
        """The host's losses by name, of the forward pass that made ``outputs``."""
        raise NotImplementedError(f'{type(self).__name__} cannot be compared with a teacher')

    def host_losses(self, images: Tensor, data_samples: Any) -> Losses:
        """The host's losses of a forward pass on images (B, C, h, w), whose annotations are at the base resolution."""
        return super().loss(images, data_samples)

    @staticmethod
    def is_annotated(data_sample: Any) -> bool:
        """Whether a sample has the annotations that the host's losses need."""
        return True

    @property
    def mspe_layer(self) -> MultiScalePatchEmbed:
        """The patch embedding, wherever the backbone keeps it."""
        return cast(MultiScalePatchEmbed, self.backbone.get_submodule(self._layer_name))

    @property
    def freezes(self) -> bool:
        """Whether the patch kernels alone train."""
        return self.tuning is not None and self.tuning.freeze

    def init_weights(self) -> None:
        """The host's; if it changes the pretrained kernel, the patch kernels are reset to it."""
        with following_base(self.mspe_layer):
            super().init_weights()
        if self.adapter:
            self.adapter.load(self.mspe_layer)

    def train(self, mode: bool = True) -> TunedModel:
        """The host's; while the patch kernels are tuned, everything else stays in eval mode."""
        super().train(mode)
        if mode and self.freezes:
            tuning_mode(self, self.mspe_layer)
        return self

    def predict_each(self, images: Sequence[Tensor], data_samples: Sequence) -> Sequence:
        """The host's predictions for images (1, C, h, w) of any sizes, which share one pass through the encoder."""
        raise NotImplementedError(f'{type(self).__name__} does not predict images of different sizes in one pass')

    def forward(self, inputs: Tensor | Sequence[Tensor], data_samples: Any = None, mode: str = 'tensor') -> Any:
        """The host's. With ``mode='predict'``, ``inputs`` may be a list of images (1, C, h, w) of any sizes.

        Raises:
            InputError: If the model has an adapter that is not loaded.
        """
        if self.adapter:
            self.adapter.require()
        if mode == 'predict' and isinstance(inputs, (list, tuple)):
            return self._predict_by_grid(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def test_step(self, data: Any) -> Any:
        """The host's, but images of different sizes are not padded to the largest: each is embedded at its own size.

        Those of one token grid share one pass.
        """
        layer = self.mspe_layer
        if not isinstance(data, dict) or layer.kernel_policy == 'constant' or len(
                {tuple(image.shape[-2:]) for image in data['inputs']}) < 2:
            return super().test_step(data)
        items = [self.data_preprocessor({key: [value] for key, value in zip(data, values)}, False)
                 for values in zip(*data.values())]
        images = [item['inputs'] for item in items]
        samples = [sample for item in items for sample in item['data_samples']]
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) == 1:    # on a detector's canvas
            return self(torch.cat(images), samples, mode='predict')
        return self(images, samples, mode='predict')

    val_step = test_step

    def _predict_by_grid(self, images: Sequence[Tensor], data_samples: Sequence) -> list:
        """:meth:`predict_each`, one pass for each token grid of the images."""
        layer, groups = self.mspe_layer, dict[tuple, list[int]]()
        for index, image in enumerate(images):
            height, width = image.shape[-2:]
            groups.setdefault((layer.grid_for((height, width)), layer.token_grid((height, width))), []).append(index)
        predicted: dict[int, Any] = {}
        for (grid, _), indices in groups.items():
            with layer.force_grid(grid):
                predicted.update(zip(indices, self.predict_each([images[index] for index in indices],
                                                                [data_samples[index] for index in indices])))
        return [predicted[index] for index in range(len(images))]

    def loss(self, inputs: Tensor, data_samples: Any) -> Losses:
        """The losses of a step: the host's, with ``tuning`` the objective's, with ``resolutions`` the host's at each one.

        Args:
            inputs: (B, C, H, W) images; for tuning at the base resolution.
            data_samples: Their annotations, at the same resolution.

        Raises:
            InputError: If annotations are missing, or the images are not at the base resolution.
        """
        def host_loss(images: Tensor) -> Losses:
            return self.host_losses(images, data_samples)

        if self.full_training:
            return self.full_training(inputs, host_loss)
        if self.tuning is None:
            return host_loss(inputs)
        self._check_batch(self.tuning, inputs, data_samples)
        layer, objective = self.mspe_layer, self.tuning.objective
        distilled = partial(distillation_loss, layer, inputs, teacher_follows_grid=self.teacher_follows_grid)

        def by_features(images: Tensor) -> Outputs:
            outputs = self.outputs(images)
            return outputs._replace(compared=outputs.features)

        def task_losses(outputs: Outputs) -> Losses:
            return self.losses_from(outputs, data_samples)

        task_loss: Callable[[Tensor], Losses] = host_loss
        if objective == 'features':
            task_loss = distilled(lambda x: Outputs(self.head_inputs(x)), feature_distance)
        elif objective == 'task+features':
            task_loss = distilled(by_features, feature_distance, task_losses)
        elif objective != 'task':
            task_loss = distilled(self.outputs, self.distance, task_losses if objective == 'both' else None)
        return self.tuning(layer, inputs, task_loss, model=self)

    def _check_batch(self, tuning: Objective, images: Tensor, data_samples: Sequence) -> None:
        objective, layer, size = tuning.objective, self.mspe_layer, tuple(images.shape[-2:])
        if objective not in ('distill', 'features') and not all(map(self.is_annotated, data_samples)):
            raise InputError(f'the training data has no annotations, and tuning.objective={objective!r} needs them: set '
                             "tuning.objective='distill', or load annotations in the training pipeline")
        if tuning.at_base and size != layer.base_resolution:
            raise InputError(
                f'a training batch is {size[0]} x {size[1]} px, and tuning is at the base resolution of '
                f'{layer.base_resolution[0]} x {layer.base_resolution[1]} px: resize, crop and pad to it in the training '
                'pipeline, or correct the base resolution')
