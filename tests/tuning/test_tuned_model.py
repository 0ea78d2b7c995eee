"""A fourth host in a few lines, an objective of one's own, and what the mixin refuses."""
from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from helpers import noise, randomize
from torch import Tensor, nn

from mspe_mm.errors import InputError
from mspe_mm.layers.patch_embed import MultiScalePatchEmbed
from mspe_mm.tuning.early_backward import Losses
from mspe_mm.tuning.factory import OBJECTIVE_TYPES, register_objective
from mspe_mm.tuning.tuned_model import Outputs, TunedModel

BASE = (32, 48)


class ToyBackbone(nn.Module):
    """A stock backbone: a plain patch embedding, then what has to stay as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PlainPatchEmbed()
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.drop(self.patch_embed(images)).transpose(1, 2)).relu().mean(2)


class PlainPatchEmbed(nn.Module):

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class ToyHost(nn.Module):
    """A host of another house: no mmengine, its own losses."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = ToyBackbone(), nn.Linear(8, 4)

    def init_weights(self) -> None:
        nn.init.normal_(self.backbone.patch_embed.proj.weight)

    def loss(self, inputs: Tensor, data_samples: list[int]) -> dict[str, Tensor]:
        return self.losses_of(self.head(self.backbone(inputs)), data_samples)

    @staticmethod
    def losses_of(logits: Tensor, labels: list[int]) -> dict[str, Tensor]:
        return dict(loss_cls=F.cross_entropy(logits, torch.tensor(labels)), acc=(logits.argmax(1) == 0).float().mean())


class TunedToy(TunedModel, ToyHost):

    def outputs(self, images: Tensor) -> Outputs:
        return Outputs(self.head(self.backbone(images)))

    def losses_from(self, outputs: Outputs, data_samples: list[int]) -> Losses:
        return self.losses_of(outputs.compared, data_samples)

    @staticmethod
    def is_annotated(data_sample: int | None) -> bool:
        return data_sample is not None


def toy(tuning: dict | None = None, cls: type = TunedToy, **settings) -> TunedToy:
    torch.manual_seed(0)
    return randomize(cls(tuning=tuning, **{'patch_embed': dict(base_resolution=BASE), **settings}))


def images(size: tuple[int, int] = BASE) -> Tensor:
    return noise(3, 3, *size, dtype=torch.float32)


LABELS = [0, 2, 3]


@pytest.mark.parametrize('objective', ['task', 'distill', 'both'])
def test_a_fourth_host_is_tuned_by_every_objective(objective):
    model = toy(dict(objective=objective))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model.train()
        losses = model.loss(images(), LABELS)
        assert {name.partition('.')[0] for name in losses} == {'k4', 'k8', 'k12'}
        assert ('k4.loss_cls' in losses) == (objective != 'distill')
        assert ('k4.loss_distill' in losses) == (objective != 'task')
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f'backbone.patch_embed.kernels.{k}.{name}' for k in (4, 8, 12) for name in ('weight', 'bias')}


def test_a_fourth_host_is_frozen_and_keeps_its_modes():
    model = toy({}).train()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if '.kernels.' in name}
    assert {name for name, module in model.named_modules() if module.training} >= {'', 'backbone.patch_embed'}
    assert not model.backbone.norm.training
    assert not model.backbone.drop.training
    assert not model.head.training
    assert not any(module.training for module in model.eval().modules())
    assert all(module.training for module in toy().train().modules())


def test_a_fourth_host_without_tuning_has_its_own_losses():
    torch.manual_seed(0)
    stock, model = randomize(ToyHost()).eval(), toy().eval()
    model.load_state_dict(stock.state_dict())
    losses = model.loss(images(), LABELS)
    assert losses == stock.loss(images(), LABELS)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('parameterization', ['native', 'residual', 'relative'])
def test_kernels_follow_a_base_kernel_that_the_host_draws_anew(parameterization):
    model = TunedToy(patch_embed=dict(base_resolution=BASE, parameterization=parameterization))
    before = model.mspe_layer.base.weight.clone()
    model.init_weights()
    assert not torch.equal(model.mspe_layer.base.weight, before)
    assert not model.mspe_layer.is_tuned()


@pytest.mark.parametrize(('interpolation', 'antialias'), [('bilinear', True), ('bilinear', False), ('area', True)])
def test_full_training_resizes_by_the_layers_downsampling(interpolation, antialias):
    model = toy(patch_embed=dict(base_resolution=BASE, downsampling=dict(interpolation=interpolation, antialias=antialias)),
                resolutions=[(16, 24), BASE]).eval()
    losses = model.loss(images(), LABELS)
    small = model.mspe_layer.downsampling.resize(images(), (16, 24))
    expected = ToyHost.loss(model, small, LABELS)
    assert losses['r16x24.loss_cls'] == expected['loss_cls']
    assert losses['r32x48.loss_cls'] == ToyHost.loss(model, images(), LABELS)['loss_cls']


# -- An objective of one's own -----------------------------------------------------------------------------------------


@pytest.fixture
def half_resolution():
    """An objective in one place: every kernel sees the batch at half the resolution."""
    @register_objective
    @dataclass
    class HalfResolution:
        weight: float = 1.0
        objective: str = 'task'
        freeze = at_base = True

        def __call__(self, patch_embed: MultiScalePatchEmbed, images: Tensor, task_loss, model=None) -> Losses:
            small = patch_embed.downsampling.resize(images, tuple(length // 2 for length in images.shape[-2:]))
            losses = {}
            for index in range(len(patch_embed.kernels)):
                with patch_embed.force_kernel(index):
                    losses[f'loss_{index}'] = self.weight * task_loss(small)['loss_cls']
            return losses

    yield HalfResolution
    del OBJECTIVE_TYPES['HalfResolution']


def test_an_objective_that_is_registered_is_chosen_by_its_type(half_resolution):
    model = toy(dict(type='HalfResolution', weight=2.)).train()
    assert isinstance(model.tuning, half_resolution)
    losses = model.loss(images(), LABELS)
    assert list(losses) == ['loss_0', 'loss_1', 'loss_2']
    sum(losses.values()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    with pytest.raises(InputError, match="tuning has no setting 'wieght': did you mean 'weight'"):
        toy(dict(type='HalfResolution', wieght=2.))


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('settings', 'sentence'), [
    (dict(tuning=dict(objektive='task')), "tuning has no setting 'objektive': did you mean 'objective'"),
    (dict(tuning=dict(sampling='doubel')), "unknown sampling 'doubel': choose one of double, partition, native"),
    (dict(tuning=dict(objective='distil')), "unknown objective 'distil': choose one of task, distill, both"),
    (dict(tuning=dict(type='MultiResolution')), "tuning has no type 'MultiResolution': did you mean 'MultiResolutionObj"),
    (dict(tuning={}, resolutions=[32]), 'tuning trains the patch kernels and resolutions everything: give one of them'),
    (dict(patch_embed=None), r'TunedToy needs a backbone with an MSPE layer, and ToyBackbone has none: give patch_embed'),
    (dict(patch_embed=dict(base_resolution=BASE, kernel_size=4)), "'kernel_size': did you mean 'kernel_sizes'"),
    (dict(tuning={}, patch_embed=dict(base_resolution=BASE, kernel_policy='constant')), "kernel_policy='constant' embeds"),
    (dict(tuning={}, patch_embed=dict(base_resolution=BASE, kernel_sizes=(16, ))), 'nothing to tune'),
])
def test_tuned_model_refuses_settings_in_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        toy(**settings)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('objective', ['task', 'both'])
def test_missing_annotations_are_refused_in_one_sentence(objective):
    model = toy(dict(objective=objective)).train()
    with pytest.raises(InputError, match=f"no annotations, and tuning.objective='{objective}' needs them"):
        model.loss(images(), [0, None, 1])
    assert 'k4.loss_distill' in toy(dict(objective='distill')).train().loss(images(), [None] * 3)


def test_training_images_off_the_base_resolution_are_refused_in_one_sentence():
    with pytest.raises(InputError, match='a training batch is 16 x 24 px, and tuning is at the base resolution of 32 x 48'):
        toy({}).train().loss(images((16, 24)), LABELS)
    assert toy(dict(token_grids=[(4, 6)])).train().loss(images((16, 24)), LABELS)    # brought to the grid


def test_a_host_without_the_two_methods_can_be_tuned_by_its_own_losses_alone():
    class Half(TunedModel, ToyHost):
        pass

    assert 'k4.loss_cls' in toy({}, Half).train().loss(images(), LABELS)
    with pytest.raises(NotImplementedError, match='Half cannot be compared with a teacher'):
        toy(dict(objective='distill'), Half).train().loss(images(), LABELS)
