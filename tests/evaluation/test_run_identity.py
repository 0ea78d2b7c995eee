"""Digests change with what can change a metric, and with nothing else."""
import pytest
import torch
from mmengine.config import Config
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.evaluation.run_identity import method_digests, run_digests, tensor_digest

CONFIG = dict(
    model=dict(type='Model', backbone=dict(kernel_policy='fixed', correlation=0.), tuning=dict(objective='task')),
    test_dataloader=dict(batch_size=1, num_workers=2, dataset=dict(data_root='data', pipeline=[dict(type='Load')])),
    test_evaluator=dict(type='IoUMetric'), work_dir='x')


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = MultiScalePatchEmbed(3, 8, 16, 4, (4, 16))
        self.head = nn.Linear(8, 2)


@pytest.fixture
def model():
    return Model()


def digests(model, **options):
    cfg = Config(CONFIG)
    cfg.merge_from_dict(options)
    return run_digests(cfg, model)


def test_run_digests_repeat(model):
    found = digests(model)
    assert set(found) == {'model', 'test_dataloader', 'test_evaluator', 'randomness', 'weights'}
    assert found == digests(model)


@pytest.mark.parametrize(('key', 'value', 'part'), [
    ('model.backbone.correlation', 0.99, 'model'), ('model.backbone.kernel_policy', 'constant', 'model'),
    ('test_dataloader.dataset.data_root', 'other', 'test_dataloader'),
    ('test_dataloader.dataset.pipeline.0.type', 'Other', 'test_dataloader'),
    ('test_evaluator.type', 'Other', 'test_evaluator'), ('randomness', dict(seed=3), 'randomness')])
def test_run_digests_change_with_a_setting_that_can_change_a_metric(model, key, value, part):
    before, after = digests(model), digests(model, **{key: value})
    assert [name for name in before if before[name] != after[name]] == [part]


@pytest.mark.parametrize('key', ['work_dir', 'model.tuning.objective', 'test_dataloader.num_workers', 'load_from'])
def test_run_digests_ignore_other_settings(model, key):
    assert digests(model) == digests(model, **{key: 5})


def test_run_digests_of_weights_leave_out_the_added_kernels(model):
    before = digests(model)
    nn.init.ones_(model.patch_embed.kernels['4'].weight)
    assert digests(model) == before
    nn.init.ones_(model.head.bias)
    assert digests(model)['weights'] != before['weights']


def test_method_digests_of_mspe_change_with_the_kernels(model):
    before = method_digests(model.patch_embed, ['mspe'])
    nn.init.ones_(model.patch_embed.kernels['4'].weight)
    assert method_digests(model.patch_embed, ['mspe'])['mspe'] != before['mspe']
    assert set(method_digests(model.patch_embed, ['vanilla'])) == {'mspe'}    # tuned, so known


def test_method_digests_of_mspe_change_with_the_token_grids_of_resolutions(model):
    found = []
    for budgets in ({}, {(16, 16): (2, 2)}, {(16, 16): (3, 3)}):
        model.patch_embed.budgets = budgets
        found.append(method_digests(model.patch_embed, ['mspe'])['mspe'])
    assert len({*found}) == 3


def test_method_digests_of_an_untuned_layer_say_nothing_of_methods_that_do_not_run(model):
    assert method_digests(model.patch_embed, ['vanilla']) == {}


def test_method_digests_of_files_are_those_of_their_contents(model, tmp_path):
    for name, contents in (('a', b'1'), ('b', b'1'), ('c', b'2')):
        (tmp_path / name).write_bytes(contents)
    a, b, c = (method_digests(model.patch_embed, [], tmp_path / name, {'x': torch.ones(1)}) for name in 'abc')
    assert a == b
    assert a['calibrated'] != c['calibrated']
    assert a['finetuned'] == c['finetuned']


@pytest.mark.parametrize('other', [
    {'x': torch.ones(2, 3)}, {'y': torch.ones(3, 2)}, {'x': torch.ones(3, 2).double()}, {'x': torch.zeros(3, 2)}])
def test_tensor_digest_depends_on_names_shapes_dtypes_and_values(other):
    assert tensor_digest(other) != tensor_digest({'x': torch.ones(3, 2)})


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensor_digest_takes_any_dtype_shape_and_layout(dtype):
    values = torch.arange(24).reshape(2, 3, 2, 2).to(dtype)
    other = values.contiguous(memory_format=torch.channels_last)
    assert tensor_digest({'x': values, 'y': values[0, 0, 0, 0]}) == tensor_digest({'y': values[0, 0, 0, 0], 'x': other})
