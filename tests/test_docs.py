"""The configs in the documentation train as they stand, on top of a user's config of the name that they give. The
first lines of Python on docs/models.md run."""
import re

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from tools_helpers import ROOT, World

from mspe_mm.data.synthetic import write_synthetic

USERS = '''
_base_ = ['{root}/configs/_base_/models/{model}.py', '{root}/configs/_base_/datasets/synthetic.py',
          '{root}/configs/_base_/default_runtime.py']
model = dict(
    data_preprocessor=dict(size=({size}, {size})), backbone=dict({backbone}), decode_head=dict({head}, num_classes=10))
crop = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='Resize', scale=({size}, {size})),
    dict(type='PackSegInputs')]
test_pipeline = [crop[0], crop[2], crop[1], crop[3]]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        sampler=dict(_delete_=True, type='InfiniteSampler'), dataset=dict(data_root='data', pipeline=crop))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data', pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
'''
MODEL = dict(
    my_setr=dict(model='setr_naive_vit-ti', size=64, head='in_channels=32, channels=32',
                 backbone='img_size=(64, 64), embed_dims=32, num_layers=2, num_heads=2, out_indices=(1, )'),
    my_segformer=dict(model='segformer_mit-b0_camvid', size=512, head='in_channels=[8, 8, 16, 16], channels=16',
                      backbone='embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]'))
SNIPPETS = [
    pytest.param(path.name, text, id=f'{path.name}-{number}')
    for path in (ROOT / 'docs/settings.md', ROOT / 'docs/own_model.md')
    for number, text in enumerate(re.findall(r'```python\n(.*?)```', path.read_text(), re.DOTALL))
    if re.match(r'_base_ = ', text)]
SHORT = ('train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'load_from=my_setr.pth', 'val_cfg.num_images=1')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def users(tmp_path_factory) -> World:
    """A folder with ``my_setr.py``, ``my_segformer.py`` and their checkpoints, and a config by make_config.py."""
    folder = tmp_path_factory.mktemp('users')
    write_synthetic(folder / 'data', num_train=2, num_val=1, size=(64, 64), seed=0)
    register_all_modules()
    init_default_scope('mmseg')
    torch.manual_seed(0)
    for name, settings in MODEL.items():
        (folder / f'{name}.py').write_text(USERS.format(root=ROOT, **settings))
        torch.save(MODELS.build(Config.fromfile(folder / f'{name}.py').model).state_dict(), folder / f'{name}.pth')
    world = World(folder)
    world.call('make_config.py', 'my_setr.py', 'my_setr.pth', 'my_mspe.py')
    return world


def test_documentation_has_the_configs():
    assert {re.search(r'my_\w+', snippet.values[1])[0] for snippet in SNIPPETS} == {'my_setr', 'my_segformer', 'my_mspe'}


@pytest.mark.parametrize(('page', 'snippet'), SNIPPETS)
def test_config_of_the_documentation_tunes(users, page, snippet):
    name = f'{page[:-3]}_{re.search("my_[a-z]+", snippet)[0]}'
    (users.folder / f'{name}.py').write_text(snippet)
    options = [] if 'load_from' in snippet else ['--cfg-options', *SHORT[:3 + ('val_cfg' in snippet)]]
    users.call('train.py', f'{name}.py', *options)
    assert (users.folder / f'work_dirs/{name}/adapter.safetensors').is_file()


def test_the_ten_lines_that_convert_dinov3_give_the_base_grid(monkeypatch, capsys):
    code = re.search(r'```python\n(.*?)```', (ROOT / 'docs/models.md').read_text(), re.DOTALL)[1]
    assert 'vit_base_patch16_dinov3' in code
    assert len(code.splitlines()) <= 10
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained: create(name))    # weights need the network
    exec(code, {})
    assert capsys.readouterr().out == 'torch.Size([1, 1029, 768])\n'
    assert '(1, 1029, 768)' in code
