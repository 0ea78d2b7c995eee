"""timm's classifiers as models of mmengine's runner, and with the MSPE layer."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from timm.data import resolve_model_data_config
from torch import Tensor

from ..backbones.timm_model import create_timm_model, preprocessor_for
from ..tuning.full_training import MultiResolutionTraining
from ..tuning.tuned_model import Outputs, TunedModel


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

    Attributes:
        timm_name: The model's name in timm.
        img_size: The image size that the arguments give in pixels, one number or (height, width); None where they give none.
    """

    checkpoint_prefix = 'backbone.'
    """The prefix that the names in a timm checkpoint lack."""

    def __init__(self,
                 timm_name: str,
                 pretrained: bool = False,
                 checkpoint: str | None = None,
                 model_kwargs: dict | None = None,
                 resolutions: Sequence[int | tuple[int, int]] | None = None,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        backbone = create_timm_model(timm_name, pretrained, checkpoint, **(model_kwargs or {}))
        super().__init__(data_preprocessor or preprocessor_for(backbone), init_cfg)
        self.timm_name, self.img_size = timm_name, (model_kwargs or {}).get('img_size')
        self.backbone = backbone
        self.multi_resolution = resolutions and MultiResolutionTraining(resolutions)

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return self.backbone.num_classes

    def init_weights(self) -> None:
        """Does nothing: timm has initialised or loaded the weights, and mmengine would initialise them again."""

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
        return logits if mode == 'tensor' else self.with_scores(data_samples, logits)

    @staticmethod
    def with_scores(data_samples: list[BaseDataElement], logits: Tensor) -> list[BaseDataElement]:
        """``data_samples`` with the probabilities of their logits (B, classes) as ``pred_score``."""
        for sample, scores in zip(data_samples, logits.float().softmax(dim=1).cpu()):    # one copy for all
            sample.pred_score = scores
        return data_samples

    def loss(self, inputs: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        """Cross entropy of the images (B, C, H, W), by resolution if there are several."""
        def plain_loss(images: Tensor) -> dict[str, Tensor]:
            return classification_loss(self.backbone(images), data_samples)

        return self.multi_resolution(inputs, plain_loss) if self.multi_resolution else plain_loss(inputs)


@MODELS.register_module()
class MSPEClassifier(TunedModel, TimmClassifier):
    """A timm transformer with the MSPE layer, its freezing and its objectives.

    Without labels, the logits are compared (``tuning=dict(objective='distill')``) or all tokens (``'features'``).

    Args:
        tuning: See :class:`~mspe_mm.tuning.tuned_model.TunedModel`.
        patch_embed: Likewise. The base resolution is by default the model's image size; without one, that of the published
            weights.
        resolutions: Likewise.
        timm_name: See :class:`TimmClassifier`.
        model_kwargs: Likewise; ``img_size``, if the model takes it, is the base resolution.
        **kwargs: Of :class:`TimmClassifier`.

    Raises:
        InputError: If the model cannot be given the layer, saying why.
    """

    def convert_backbone(self, patch_embed: dict | None) -> None:
        """Give the model its MSPE layer."""
        settings = dict(patch_embed or {})
        self.img_size = settings.get('base_resolution') or self.img_size
        settings['base_resolution'] = self.img_size or resolve_model_data_config(self.backbone)['input_size'][1:]
        super().convert_backbone(settings)

    @staticmethod
    def is_annotated(data_sample: BaseDataElement) -> bool:
        """Whether a sample has a label."""
        return 'gt_label' in data_sample

    def outputs(self, images: Tensor) -> Outputs:
        """Logits (B, classes), and for ``'task+features'`` the tokens, too."""
        if self.tuning is None or self.tuning.objective != 'task+features':
            logits = self.backbone(images)
            return Outputs(logits, logits)
        tokens = self.backbone.forward_features(images)
        return Outputs(None, self.backbone.forward_head(tokens), [tokens])

    def head_inputs(self, images: Tensor) -> list[Tensor]:
        """What timm's ``forward_features`` returns: tokens (B, N, D), or a map of hierarchical models."""
        return [self.backbone.forward_features(images)]

    def predict_each(self, images: Sequence[Tensor], data_samples: list[BaseDataElement]) -> list[BaseDataElement]:
        """Predictions for images (1, C, h, w) of any sizes, which share one pass through the encoder."""
        with self.mspe_layer.embedding_each(images):
            return self.with_scores(data_samples, self.backbone(self.mspe_layer.stand_in(images)))

    def losses_from(self, outputs: Outputs, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        """Cross entropy."""
        return classification_loss(outputs.context, data_samples)


def classification_loss(logits: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
    """Cross entropy of logits (B, classes)."""
    labels = torch.tensor([sample.gt_label for sample in data_samples], device=logits.device)
    return dict(loss=F.cross_entropy(logits, labels))
