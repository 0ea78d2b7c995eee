"""A backbone alone as a model of mmengine's runner: its patch kernels are tuned without a head and without annotations."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import InputError
from ..tuning.distillation import feature_distance
from ..tuning.tuned_model import Outputs, TunedModel
from .timm_model import preprocessor_for
from .timm_vit import MSPETimmViT


class FeatureModel(BaseModel):
    """A backbone under mmengine's runner. Its predictions are its features; it has no losses.

    Args:
        backbone: Config of a backbone of any registry, ``MSPETimmViT`` or ``mmseg.MixVisionTransformer``.
        data_preprocessor: For ``MSPETimmViT`` by default ``ImgDataPreprocessor`` with the mean and the standard deviation of
            the timm model; required for others.
        init_cfg: mmengine's.

    Raises:
        InputError: If ``data_preprocessor`` is missing.
    """

    def __init__(self, backbone: dict, data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        built = MODELS.build(backbone)
        super().__init__(data_preprocessor or _preprocessor_of(built), init_cfg)
        self.backbone = built

    def features(self, images: Tensor) -> list[Tensor]:
        """All tokens that the backbone returns for images (B, C, H, W): maps (B, D, rows, columns), and class and register
        tokens (B, tokens, D) or (B, D)."""
        return list(_flat(getattr(self.backbone, 'all_tokens', self.backbone)(images)))

    def forward(self, inputs: Tensor, data_samples: list[BaseDataElement] | None = None,
                mode: str = 'tensor') -> list[Tensor] | dict | list[BaseDataElement]:
        """mmengine's three modes.

        Args:
            inputs: (B, C, H, W) normalised images.
            data_samples: Only needed for ``'predict'``.
            mode: ``'tensor'``, ``'loss'`` or ``'predict'``.

        Returns:
            :meth:`features`; losses by name; or ``data_samples`` with ``features``, those of their image.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        features = self.features(inputs)
        return features if mode == 'tensor' else self.with_features(data_samples, features)

    @staticmethod
    def with_features(data_samples: list[BaseDataElement], features: list[Tensor]) -> list[BaseDataElement]:
        """``data_samples`` with the list of their features, without the batch axis."""
        for index, sample in enumerate(data_samples):
            sample.features = [level[index] for level in features]
        return data_samples

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Raises an InputError: there is nothing that annotations could be compared with."""
        raise InputError(f'{type(self).__name__} has no head and no losses of its own: give tuning=dict(), and no '
                         'resolutions')


@MODELS.register_module()
class MSPEFeatureModel(TunedModel, FeatureModel):
    """A backbone with the MSPE layer, tuned so that the features of small images are those of the images at the base
    resolution.

    The loss is ``|s - t|^2 / |t|^2``, over the batch, for each output of the backbone, and the mean over the outputs. For
    ``MSPETimmViT`` these are, for each of its ``out_indices``, the map of all patch tokens, and the class and register
    tokens: the two have the same weight, however many tokens they are. The adapter belongs to the pretrained kernel, so it
    loads on every model with a head on this backbone at this base resolution.

    A checkpoint of such a model loads by ``load_from``: the weights outside of the backbone are left out.

    Args:
        tuning: See :class:`~mspe_mm.tuning.tuned_model.TunedModel`; ``objective`` is ``'distill'``, also by default, or
            ``'features'``, which is the same here.
        patch_embed: Likewise.
        adapter: Likewise.
        backbone: See :class:`FeatureModel`.
        **kwargs: Of :class:`FeatureModel`.

    Raises:
        InputError: For another ``objective``, which needs a head.
    """

    checkpoint_prefix = 'backbone.'
    checkpoint_has_more = True
    """Whether weights without the prefix are another model's, and left out."""
    distance = staticmethod(feature_distance)

    def __init__(self, *args: Any, tuning: Mapping | None = None, **kwargs: Any) -> None:
        if tuning is not None:
            tuning = {'objective': 'distill', **tuning}
            if tuning['objective'] not in ('distill', 'features'):
                raise InputError(f"MSPEFeatureModel has no head, and tuning.objective={tuning['objective']!r} needs one: "
                                 "set tuning.objective='distill'")
        super().__init__(*args, tuning=tuning, **kwargs)

    @property
    def timm_name(self) -> str | None:
        """The backbone's name in timm, for the transforms of the data; None for other backbones."""
        return getattr(self.backbone, 'model_name', None)

    @property
    def img_size(self) -> tuple[int, int]:
        """The base resolution (height, width) in pixels, likewise."""
        return self.mspe_layer.base_resolution

    def head_inputs(self, images: Tensor) -> list[Tensor]:
        """The features of images (B, C, h, w)."""
        return self.features(images)

    def outputs(self, images: Tensor) -> Outputs:
        """The same."""
        return Outputs(self.features(images))

    def predict_each(self, images: Sequence[Tensor], data_samples: list[BaseDataElement]) -> list[BaseDataElement]:
        """The features of images (1, C, h, w) of any sizes, which share one pass through the encoder."""
        with self.mspe_layer.embedding_each(images):
            return self.with_features(data_samples, self.features(self.mspe_layer.stand_in(images)))


def _flat(outputs: Tensor | Iterable) -> Iterator[Tensor]:
    """The tensors in nested sequences, in their order."""
    if isinstance(outputs, Tensor):
        yield outputs
        return
    for part in outputs:
        yield from _flat(part)


def _preprocessor_of(backbone: nn.Module) -> dict:
    if not isinstance(backbone, MSPETimmViT):
        raise InputError(f'the mean and standard deviation of {type(backbone).__name__} are not known: give '
                         "model.data_preprocessor=dict(type='ImgDataPreprocessor', mean=..., std=...)")
    return preprocessor_for(backbone.vit)
