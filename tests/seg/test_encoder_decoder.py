"""MSPEEncoderDecoder against mmseg's EncoderDecoder: SETR Naive, PUP and MLA, from stock checkpoints to tuned models."""
from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import SummedLosses, noise, randomize, relative_error, saved_bytes, timm_resample
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.runner import load_checkpoint
from mmengine.structures import PixelData
from mmseg.models.utils import PatchEmbed
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from python_processes import fork_python

from mspe_mm import InputError
from mspe_mm.core import pi_resize
from mspe_mm.seg import MSPEEncoderDecoder
from mspe_mm.seg.encoder_decoder import place_of_view

register_all_modules()

BASE = (64, 96)    # 4 x 6 tokens
GRID = (4, 6)
CLASSES = 5
LOSS = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True)
HEADS = ['naive', 'pup', 'mla']
every_head = pytest.mark.parametrize('head', HEADS)
parameterizations = pytest.mark.parametrize('parameterization', ['native', 'residual'])


def head_config(**changes) -> dict:
    return {**dict(type='SETRUPHead', in_channels=16, channels=8, in_index=3, num_classes=CLASSES, dropout_ratio=0.1,
                   norm_cfg=dict(type='BN', requires_grad=True), num_convs=1, up_scale=4, kernel_size=1, align_corners=False,
                   loss_decode=LOSS), **changes}


def stock_config(head: str = 'naive', **backbone) -> dict:
    """mmseg's SETR with the named head, as its configs/_base_/models/setr_*.py have it, but tiny."""
    config = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                               bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=BASE),
        backbone=dict(type='VisionTransformer', img_size=BASE, patch_size=16, embed_dims=16, num_layers=4, num_heads=2,
                      out_indices=(0, 1, 2, 3), drop_rate=0.1, attn_drop_rate=0.1, drop_path_rate=0.1, patch_bias=True,
                      norm_cfg=dict(type='LN', eps=1e-6), with_cls_token=True, interpolate_mode='bilinear', **backbone),
        train_cfg=dict(), test_cfg=ConfigDict(mode='whole'))
    if head == 'naive':
        config.update(decode_head=head_config(), auxiliary_head=[head_config(in_index=i) for i in range(3)])
    if head == 'pup':
        config.update(decode_head=head_config(num_convs=4, up_scale=2, kernel_size=3),
                      auxiliary_head=[head_config(in_index=0, kernel_size=3)])
    if head == 'mla':
        norm = dict(type='BN', requires_grad=True)
        config.update(
            neck=dict(type='MLANeck', in_channels=[16] * 4, out_channels=8, norm_cfg=norm, act_cfg=dict(type='ReLU')),
            decode_head=dict(type='SETRMLAHead', in_channels=(8, ) * 4, channels=16, in_index=(0, 1, 2, 3), mla_channels=4,
                             dropout_ratio=0, num_classes=CLASSES, norm_cfg=norm, align_corners=False,
                             loss_decode=LOSS),
            auxiliary_head=[dict(type='FCNHead', in_channels=8, channels=8, in_index=0, dropout_ratio=0, num_convs=0,
                                 kernel_size=1, concat_input=False, num_classes=CLASSES, align_corners=False,
                                 loss_decode=LOSS)])
    return config


def stock_model(head: str = 'naive', **backbone) -> torch.nn.Module:
    """mmseg's own model, with BatchNorm statistics and everything else away from their initial values."""
    model = MODELS.build(stock_config(head, **backbone))
    model.init_weights()
    randomize(model)
    model.eval()
    return model


def mspe_model(head: str = 'naive', tuning: dict | None = None, **backbone) -> MSPEEncoderDecoder:
    config = stock_config(head)
    config.update(type='MSPEEncoderDecoder', tuning=tuning)
    config['backbone'].update(type='MSPEViT', **backbone)
    return MODELS.build(config)


def image(height: int, width: int) -> torch.Tensor:
    return noise(2, 3, height, width, dtype=torch.float32)


def batch(seed: int = 0) -> dict:
    """Two images and masks at the base resolution, as a data loader gives them."""
    random = np.random.default_rng(seed)
    images = [torch.from_numpy(random.integers(0, 256, (3, *BASE), dtype=np.uint8)) for _ in range(2)]
    masks = [torch.from_numpy(random.integers(0, CLASSES, (1, *BASE))) for _ in range(2)]
    meta = dict(ori_shape=BASE, img_shape=BASE, pad_shape=BASE)
    return dict(inputs=images,
                data_samples=[SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo=meta) for mask in masks])


def outputs(model: torch.nn.Module, x: torch.Tensor) -> list:
    """Backbone features, neck features, logits and every auxiliary head's logits."""
    features = model.extract_feat(x)
    tensors = [*model.backbone(x), *features, model.decode_head(features), model(x)]
    return tensors + [head(features) for head in model.auxiliary_head]


def flexivit(stock: torch.nn.Module, patch: tuple[int, int]) -> torch.nn.Module:
    """The stock model with its projection replaced by timm's resampling of it; its position table stays."""
    projection = stock.backbone.patch_embed.projection
    stock.backbone.patch_embed = PatchEmbed(3, projection.out_channels, kernel_size=patch, stride=patch)
    stock.backbone.patch_embed.projection.weight.data = timm_resample(projection.weight, patch, 'bilinear', True)
    stock.backbone.patch_embed.projection.bias.data = projection.bias.data
    return stock


# -- Stock checkpoints -------------------------------------------------------------------------------------------------


@every_head
@parameterizations
@torch.no_grad()
def test_a_stock_checkpoint_loads_strictly_and_gives_the_stock_model_bit_for_bit(tmp_path, head, parameterization):
    stock = stock_model(head)
    path = str(tmp_path / 'stock.pth')
    torch.save(dict(state_dict=stock.state_dict(), meta=dict(mmseg_version='1.2.2')), path)
    by_torch = mspe_model(head, parameterization=parameterization, attention='naive')
    by_mmengine = mspe_model(head, tuning={}, parameterization=parameterization, attention='naive')
    by_torch.load_state_dict(torch.load(path, weights_only=False)['state_dict'], strict=True)
    load_checkpoint(by_mmengine, path, map_location='cpu', strict=True)
    stock.requires_grad_(False)    # matmul picks its kernel by requires_grad, so all models are frozen
    expected = outputs(stock, image(*BASE))
    for model in (by_torch, by_mmengine):
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in stock.state_dict().items())
        model.eval().requires_grad_(False)
        actual = outputs(model, image(*BASE))
        assert len(actual) == len(expected)
        assert all(torch.equal(a, e) for a, e in zip(actual, expected))


@every_head
@torch.no_grad()
def test_predictions_and_losses_at_the_base_resolution_are_the_stock_models(head):
    stock, model = stock_model(head).requires_grad_(False), mspe_model(head, attention='naive')
    model.load_state_dict(stock.state_dict(), strict=True)
    model.eval().requires_grad_(False)
    predictions = [m.val_step(batch()) for m in (model, stock)]
    for ours, theirs in zip(*predictions):
        assert torch.equal(ours.seg_logits.data, theirs.seg_logits.data)
        assert torch.equal(ours.pred_sem_seg.data, theirs.pred_sem_seg.data)
    losses = [m(**m.data_preprocessor(batch(), training=True), mode='loss') for m in (model, stock)]
    assert losses[0] == losses[1]


@every_head
@torch.no_grad()
def test_fused_attention_changes_the_stock_models_outputs_by_rounding_alone(head):
    stock, model = stock_model(head), mspe_model(head)
    model.load_state_dict(stock.state_dict(), strict=True)
    for actual, expected in zip(outputs(model.eval(), image(*BASE)), outputs(stock, image(*BASE))):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@every_head
@pytest.mark.parametrize('size', [(16, 24), (24, 36), (48, 72), (24, 60), (128, 192)])
@torch.no_grad()
def test_untrained_at_other_resolutions_it_is_the_stock_model_with_timms_flexivit_kernel(head, size):
    stock, model = stock_model(head), mspe_model(head)
    model.load_state_dict(stock.state_dict(), strict=True)
    model.eval()
    x = image(*size)
    expected = outputs(flexivit(stock, (size[0] // GRID[0], size[1] // GRID[1])), x)
    for actual, reference in zip(outputs(model, x), expected):
        assert relative_error(actual, reference) < 1e-5


def test_an_mspe_checkpoint_round_trips_through_mmengine(tmp_path):
    tuned, other = randomize(mspe_model(tuning={})), mspe_model()
    torch.save(dict(state_dict=tuned.state_dict()), tmp_path / 'tuned.pth')
    load_checkpoint(other, str(tmp_path / 'tuned.pth'), strict=True)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in tuned.state_dict().items())


# -- Tuning ------------------------------------------------------------------------------------------------------------


@every_head
@parameterizations
def test_after_real_tuning_steps_every_tensor_but_the_kernels_is_the_checkpoints(head, parameterization):
    model = mspe_model(head, {}, parameterization=parameterization, attention='naive')
    model.load_state_dict(stock_model(head).state_dict(), strict=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert any('running_mean' in name for name in before)
    optim_wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)))
    for step in range(3):
        model.train()    # as the training loop does
        logged = model.train_step(batch(step), optim_wrapper)
        assert logged['loss'].isfinite()
        assert {name.split('.')[0] for name in logged} == {'loss', 'k4', 'k8', 'k12'}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith('backbone.patch_embed.kernels.'), name
    with torch.no_grad():
        stock = stock_model(head)
        stock.load_state_dict({name: value for name, value in model.state_dict().items() if '.kernels.' not in name})
        assert torch.equal(model.eval().requires_grad_(False)(image(*BASE)), stock.requires_grad_(False)(image(*BASE)))


def test_a_tuned_base_kernel_moves_and_the_pretrained_one_does_not():
    model = mspe_model(tuning=dict(base_weight=0.5), tune_base=True)
    model.load_state_dict(stock_model().state_dict(), strict=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optim_wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)))
    logged = model.train().train_step(batch(), optim_wrapper)
    assert {name.split('.')[0] for name in logged} == {'loss', 'k4', 'k8', 'k12', 'k16', 'base'}
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if '.kernels.' in name}


def test_the_losses_are_the_hosts_at_the_resolutions_of_the_kernels():
    model = mspe_model(tuning={})
    model.load_state_dict(randomize(mspe_model()).state_dict())
    data = model.train().data_preprocessor(batch(), training=True)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    losses = model(**data, mode='loss')
    plain = mspe_model()
    plain.load_state_dict(model.state_dict())
    plain.eval()
    for index, k in enumerate((4, 8, 12)):
        assert seen[index].shape[-2] // GRID[0] in range(k // 2, 2 * k + 1)
        with plain.backbone.patch_embed.force_kernel(index):
            host = plain.loss(seen[index], data['data_samples'])
        for name, value in host.items():
            torch.testing.assert_close(losses.pop(f'k{k}.{name}'), value)
    assert losses == {}


def gradient_of_a_step(model: MSPEEncoderDecoder, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Of theta, for the resolutions that ``seed`` draws and the batch of that seed."""
    data = model.train().data_preprocessor(batch(seed), training=True)
    torch.manual_seed(seed)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    return torch.autograd.grad(loss, list(model.backbone.patch_embed.kernels.parameters()))


@pytest.mark.parametrize('with_cp', [False, True])    # the host's checkpoints are reentrant
@pytest.mark.parametrize('head', ['naive', 'mla'])
@pytest.mark.parametrize('objective', ['task', 'distill', 'both'])
def test_the_gradient_is_that_of_the_plain_losses_in_the_memory_of_one_pass(head, with_cp, objective):
    model = mspe_model(head, dict(objective=objective, sampling='native'), with_cp=with_cp, tune_base=True)
    randomize(model)
    with saved_bytes(model) as count:
        gradients = gradient_of_a_step(model)
    assert all(parameter.grad is None for parameter in model.parameters())
    model.tuning = SummedLosses(objective)
    model.backbone.layers.apply(lambda module: setattr(module, 'with_cp', False))
    with saved_bytes(model) as straightforward:
        expected = gradient_of_a_step(model)
    for gradient, reference in zip(gradients, expected):
        assert relative_error(gradient, reference) < 1e-5
    # Of five passes; without the auxiliary heads the largest is more than a fifth, for its images are four times the base's.
    assert count.peak < straightforward.peak / (3 if objective == 'distill' else 4)


@pytest.mark.parametrize('factor', [1., 2.**-2, 1024., 2.**16])    # gradient accumulation, and loss scales of GradScaler
@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('objective', ['task', 'both'])
def test_a_weight_unfrozen_beside_the_kernels_gets_its_gradient(objective, with_cp, factor):
    def gradients(tuning):
        torch.manual_seed(0)
        model = randomize(mspe_model('naive', dict(objective=objective, sampling='native'), with_cp=with_cp, tune_base=True))
        model.decode_head.conv_seg.weight.requires_grad_(True)
        model.tuning = tuning or model.tuning
        if tuning:
            model.backbone.layers.apply(lambda module: setattr(module, 'with_cp', False))
        for seed in range(2):    # two batches before a step
            data = model.train().data_preprocessor(batch(seed), training=True)
            torch.manual_seed(seed)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            (loss * factor).backward()
        return {name: p.grad / factor for name, p in model.named_parameters() if p.grad is not None}

    actual, expected = gradients(None), gradients(SummedLosses(objective))
    assert len(actual) == 9    # weights and biases of four kernels, and the one beside them
    assert 'decode_head.conv_seg.weight' in actual
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert relative_error(gradient, expected[name]) < 1e-5, name


@every_head
def test_both_objectives_are_the_hosts_losses_and_the_distance_in_one_forward_pass(head):
    state, found, passes = randomize(mspe_model(head, tune_base=True)).state_dict(), {}, {}
    for objective in ('task', 'distill', 'both'):
        model, seen = mspe_model(head, dict(objective=objective), tune_base=True).train(), []
        model.load_state_dict(state)
        model.backbone.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        data = model.data_preprocessor(batch(), training=True)
        torch.manual_seed(0)
        found[objective], passes[objective] = model(**data, mode='loss'), len(seen)
    assert passes == dict(task=5, distill=6, both=6)
    assert list(found['distill']) == [f'{name}.loss_distill' for name in ('k4', 'k8', 'k12', 'k16', 'base')]
    assert found['both'].keys() == found['task'].keys() | found['distill'].keys()
    for name, value in {**found['task'], **found['distill']}.items():
        torch.testing.assert_close(found['both'][name], value)


def test_without_annotations_there_is_a_distance_alone():
    data = batch()
    for sample in data['data_samples']:
        del sample.gt_sem_seg
    losses = {}
    for objective in ('distill', 'task', 'both'):
        model = mspe_model(tuning=dict(objective=objective)).train()
        prepared = model.data_preprocessor(data, training=True)
        if objective == 'distill':
            losses = model(**prepared, mode='loss')
        else:
            with pytest.raises(InputError, match=r"no annotations.*set tuning.objective='distill'"):
                model(**prepared, mode='loss')
    assert list(losses) == ['k4.loss_distill', 'k8.loss_distill', 'k12.loss_distill']


@every_head
def test_features_are_compared_without_annotations_and_without_heads(head):
    data = batch()
    for sample in data['data_samples']:
        del sample.gt_sem_seg
    model = randomize(mspe_model(head, dict(objective='features', sampling='native'))).train()
    images = model.data_preprocessor(data, training=True)['inputs']
    model.decode_head.register_forward_pre_hook(lambda *_: pytest.fail('the head ran'))
    losses, layer = model(images, data['data_samples'], mode='loss'), model.mspe_layer
    assert list(losses) == ['k4.loss_distill', 'k8.loss_distill', 'k12.loss_distill']
    with torch.no_grad():
        teacher = model.extract_feat(images)
        for size, loss in zip((4, 8, 12), losses.values()):
            small = layer.downsampling.resize(images, tuple(size * tokens for tokens in layer.grid_size))
            levels = [(s - t).square().sum() / t.square().sum() for s, t in zip(model.extract_feat(small), teacher)]
            assert loss.item() == pytest.approx(sum(levels).item() / len(levels), rel=1e-5)


def test_a_head_without_logits_is_refused():
    config = stock_config()
    config.update(type='MSPEEncoderDecoder', tuning=dict(objective='distill'), auxiliary_head=None)
    config['backbone'].update(type='MSPEViT')
    config['decode_head'] = dict(
        type='PointHead', in_channels=[16], in_index=[3], channels=8, num_classes=CLASSES, align_corners=False,
        loss_decode=LOSS)
    with pytest.raises(InputError, match=r'distill.*needs logits for each pixel, and PointHead has none'):
        MODELS.build(config)
    config['tuning'] = dict(objective='features')
    assert MODELS.build(config).tuning.objective == 'features'


RANK = '''
import sys
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
import mspe_mm.seg

register_all_modules()
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
given = torch.load(f'{folder}/given.pth', weights_only=False)
model = MODELS.build(given['config'])
model.load_state_dict(given['state_dict'])
wrapped = MMDistributedDataParallel(module=model, broadcast_buffers=False)
optim_wrapper = build_optim_wrapper(wrapped, given['optim_wrapper'])
optim_wrapper.initialize_count_status(wrapped, 0, 4)
for step in range(4):
    wrapped.train()
    torch.manual_seed(2 * step + rank)
    wrapped.train_step(given['batches'][2 * step + rank], optim_wrapper)
torch.save(model.state_dict(), f'{folder}/{rank}.pth')
'''


@pytest.mark.slow
def test_two_processes_take_the_mean_of_their_gradients(tmp_path):
    """With two accumulated batches before each step."""
    tuning = dict(sampling='native')
    model = mspe_model(tuning=tuning, tune_base=True)
    model.load_state_dict(stock_model().state_dict(), strict=True)
    config = stock_config()
    config.update(type='MSPEEncoderDecoder', tuning=tuning)
    config['backbone'].update(type='MSPEViT', tune_base=True)
    torch.save(dict(config=config, state_dict=model.state_dict(), batches=[batch(seed) for seed in range(8)],
                    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2)),
               tmp_path / 'given.pth')
    with ThreadPoolExecutor(2) as pool:
        ranks = [*pool.map(lambda rank: fork_python('-c', RANK, rank, tmp_path, folder=tmp_path), range(2))]
    assert [rank.returncode for rank in ranks] == [0, 0], [rank.stderr for rank in ranks]
    theta = list(model.backbone.patch_embed.kernels.parameters())
    model.tuning = SummedLosses()
    for step in range(2):
        gradients = [gradient_of_a_step(model, 4 * step + i) for i in range(4)]
        with torch.no_grad():
            for parameter, *parts in zip(theta, *gradients):
                parameter.sub_(0.1 * sum(parts) / 4)
    for rank in range(2):
        for name, value in torch.load(tmp_path / f'{rank}.pth').items():
            expected = model.state_dict()[name]
            assert torch.equal(value, expected) if '.kernels.' not in name else relative_error(value, expected) < 1e-5, name


def test_in_tuning_only_the_layer_trains_and_all_else_is_in_eval_mode():
    model = mspe_model(tuning={}).train()
    layer = set(model.backbone.patch_embed.modules())
    assert all(module.training == (module in layer or module is model) for module in model.modules())
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if '.kernels.' in name} != set()
    model.eval()
    assert not any(module.training for module in model.modules())


def test_without_tuning_it_trains_as_the_host_does():
    model = mspe_model().train()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    losses = model(**model.data_preprocessor(batch(), training=True), mode='loss')
    assert {name.split('.')[0] for name in losses} == {'decode', 'aux_0', 'aux_1', 'aux_2'}


@pytest.mark.parametrize(('tuning', 'culprit'), [(dict(sampling='all'), "sampling 'all'"),
                                                 (dict(base_weight=-1), 'base_weight.*-1')])
def test_tuning_settings_that_make_no_sense_are_refused_by_name(tuning, culprit):
    with pytest.raises(ValueError, match=culprit):
        mspe_model(tuning=tuning)


def test_a_backbone_without_mspe_is_refused_by_name():
    with pytest.raises(InputError, match=r'MSPEEncoderDecoder needs.*VisionTransformer has none.*give patch_embed=dict'):
        MODELS.build({**stock_config(), 'type': 'MSPEEncoderDecoder'})


@parameterizations
def test_init_weights_of_the_whole_model_leaves_the_kernels_consistent_with_the_base_kernel(parameterization):
    model = randomize(mspe_model(parameterization=parameterization))
    model.init_weights()
    layer = model.backbone.patch_embed
    for k, kernel in layer.kernels.items():
        native = parameterization == 'native'
        weight = pi_resize(layer.base.weight, (int(k), int(k)))
        assert torch.equal(kernel.weight, weight if native else torch.zeros_like(weight))


# -- Imports -----------------------------------------------------------------------------------------------------------


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_importing_the_package_and_its_core_imports_no_host():
    loaded = run_python('import sys, mspe_mm; print(sorted({name.split(".")[0] for name in sys.modules}))\n'
                        'import mspe_mm.models.adapter, mspe_mm.tuning.tuned_model\n'
                        'print(sorted({name.split(".")[0] for name in sys.modules}))')
    package, core = (set(eval(line)) for line in loaded.splitlines())
    hosts = {'mmcv', 'mmengine', 'mmseg', 'mmdet', 'timm'}
    assert 'mspe_mm' in package
    assert 'torch' in core
    assert not package & hosts
    assert not core & hosts


@pytest.mark.slow
def test_segmentation_works_without_mmdet():
    assert run_python('''
import sys

class NoMMDet:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'mmdet':
            raise ModuleNotFoundError(f'No module named {name!r}', name='mmdet')

sys.meta_path.insert(0, NoMMDet())
import torch
from mspe_mm.seg import MSPEViT
model = MSPEViT(img_size=32, embed_dims=8, num_layers=1, num_heads=1).eval()
assert model(torch.zeros(1, 3, 8, 8))[0].shape == (1, 8, 2, 2)
print('mmdet' in sys.modules)
''').strip() == 'False'


@pytest.mark.slow
def test_segmentation_without_mmseg_says_what_to_install():
    message = run_python('''
import sys
sys.modules['mmseg'] = None
try:
    import mspe_mm.seg
except ModuleNotFoundError as error:
    print(error)
''')
    assert "'mmseg'" in message
    assert 'mspe_mm[onedl]' in message


# -- Sliding windows ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def sliding(layout, context):
    """An image, the windows that slide over it with their places, the tokens of each, and the model."""
    model = mspe_model(img_size=BASE, context=context, downsampling=dict(correlation=0.9), fit='floor')
    randomize(model).eval()
    model.test_cfg = ConfigDict(mode='slide', crop_size=(16, 24), stride=(8, 12))
    layer, x, seen = model.mspe_layer, layout(noise(2, 3, 36, 60, dtype=torch.float32)), []

    def keep(module, inputs, out):
        places = [(top, left) for top in range(21) for left in range(37)
                  if torch.equal(x[:, :, top:top + 16, left:left + 24], inputs[0])]
        seen.append((places, inputs[0], out[0].unflatten(1, GRID)))

    handle = layer.register_forward_hook(keep)
    samples = [SegDataSample(metainfo=dict(ori_shape=(36, 60), img_shape=(36, 60))) for _ in x]
    model.predict(x, samples)
    handle.remove()
    return x, seen, model


@pytest.mark.parametrize('layout', [torch.Tensor.contiguous, lambda x: x.contiguous(memory_format=torch.channels_last)])
@torch.no_grad()
def test_sliding_windows_have_the_tokens_of_the_whole_image(layout):
    """Kernels with context see the image around the window, not its edge."""
    x, seen, model = sliding(layout, 3)
    assert [places for places, _, _ in seen] == [[(top, left)] for top in (0, 8, 16, 20) for left in (0, 12, 24, 36)]
    layer, differing = model.mspe_layer, 0
    with layer.force_grid((9, 15)):    # patches of 4 px, as in the windows
        whole = layer(x)[0].unflatten(1, (9, 15))
    for [(top, left)], window, tokens in seen:
        torch.testing.assert_close(tokens, whole[:, top // 4:top // 4 + 4, left // 4:left // 4 + 6], rtol=1e-4, atol=1e-4)
        differing += not torch.allclose(layer(window)[0].unflatten(1, GRID), tokens, rtol=1e-3, atol=1e-3)
    assert differing == len(seen)


@torch.no_grad()
def test_sliding_windows_without_context_are_images_of_their_own():
    _, seen, model = sliding(torch.Tensor.contiguous, 0)
    assert all(torch.equal(model.mspe_layer(window)[0].unflatten(1, GRID), tokens) for _, window, tokens in seen)


def test_place_of_view_is_none_for_what_is_no_window():
    x = noise(2, 3, 8, 12)
    assert place_of_view(x[:, :, 3:5, 4:9], x) == (3, 4)
    assert place_of_view(x, x) == (0, 0)
    assert place_of_view(x[1:, :, 3:5, 4:9], x[1:]) == (3, 4)
    for other in (x[:, :, 3:5, 4:9].clone(), x[:, :, ::2], x.clone()):
        assert place_of_view(other, x) is None
    assert place_of_view(x[:1, :1, :1, :1].expand(2, 3, 4, 4), x[:1, :1, :1, :1].expand(2, 3, 8, 8)) is None
