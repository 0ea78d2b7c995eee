"""A config that tunes one's own model, from the config that the model was trained with, by the command lines."""
import json

import pytest
import torch
from mmengine.config import Config
from stock_helpers import assert_python_runs
from tools_helpers import ROOT, World

from mspe_mm.data.synthetic import write_synthetic

MODEL = '''
model = dict(
    type='EncoderDecoder',
    pretrained='pretrain/vit_large_p16.pth',    # a file that nobody has
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0,
                           seg_pad_val=255, size=(64, 64)),
    backbone=dict(type='VisionTransformer', img_size=(64, 64), patch_size=16, embed_dims=32, num_layers=2, num_heads=2,
                  out_indices=(1, ), final_norm=True, drop_path_rate=0.1),
    decode_head=dict(type='FCNHead', in_channels=32, channels=16, in_index=0, num_convs=1, concat_input=False,
                     num_classes=10, norm_cfg=dict(type='BN', requires_grad=True), align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
'''
DATA = f'''
_base_ = '{ROOT}/configs/_base_/datasets/synthetic.py'
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'),
                        sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
test_dataloader = val_dataloader
'''
SCHEDULE = '''
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='PolyLR', power=0.9, begin=0, end=2, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
log_processor = dict(by_epoch=False)
'''
OWN = f'''
_base_ = ['./parts/model.py', './parts/data.py', './parts/schedule.py', '{ROOT}/configs/_base_/default_runtime.py']
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
'''
INFERENCE = '''
import sys
import numpy as np
from mmseg.apis import inference_model, init_model
model = init_model(sys.argv[1], sys.argv[2], device='cpu')
assert inference_model(model, np.zeros((16, 16, 3), np.uint8)).pred_sem_seg.data.shape == (1, 16, 16)
assert type(model.backbone.patch_embed).__name__ == 'MultiScalePatchEmbed'
'''
SHORT = ('train_cfg.max_iters=2', 'train_cfg.val_interval=1', 'param_scheduler.1.end=2',
         'default_hooks.checkpoint.save_best=mIoU@1/4', 'val_cfg.num_images=2')


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> World:
    """A user's folder: ``own.py`` with four bases, ``own.pth`` trained by it, and what make_config.py makes of them."""
    folder = tmp_path_factory.mktemp('own')
    write_synthetic(folder / 'data', num_train=6, num_val=3, size=(64, 64), seed=0)
    (folder / 'parts').mkdir()
    for name, text in (('model', MODEL), ('data', DATA), ('schedule', SCHEDULE)):
        (folder / f'parts/{name}.py').write_text(text)
    (folder / 'own.py').write_text(OWN)
    world = World(folder)
    world.run('train.py', 'own.py', '--cfg-options', 'model.pretrained=None')
    (folder / 'own.pth').write_bytes((folder / 'work_dirs/own/iter_2.pth').read_bytes())
    world.run('make_config.py', 'own.py', 'own.pth', 'own_mspe.py')
    return world


def test_make_config_writes_what_changes_on_top_of_the_users_config(world):
    text = (world.folder / 'own_mspe.py').read_text()
    assert "_base_ = 'own.py'" in text
    assert 'base resolution 64 x 64 px, patches of 16 px' in text
    assert 'decode_head' not in text    # what stays is not repeated
    cfg = Config.fromfile(world.folder / 'own_mspe.py')
    assert (cfg.model.type, cfg.model.backbone.type) == ('MSPEEncoderDecoder', 'MSPEViT')
    assert cfg.model.tuning.type == 'MixedResolutionObjective'
    assert cfg.model.backbone.kernel_sizes == (1, 2, 3, 4, 6, 8, 12, 16)
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 6000)    # of 2 images
    assert (cfg.model.backbone.parameterization, cfg.optim_wrapper.optimizer.lr) == ('relative', 0.01)
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    assert cfg.load_from == 'own.pth'


def test_make_config_writes_a_config_that_tunes_and_sweeps(world):
    done = world.run('train.py', 'own_mspe.py', '--cfg-options', *SHORT)
    assert 'mIoU@1/4: ' in done.stdout
    folder = world.folder / 'work_dirs/own_mspe'
    (best, ) = folder.glob('best_mIoU@1_4_iter_*.pth')
    base, tuned = (torch.load(path, weights_only=False)['state_dict'] for path in (world.folder / 'own.pth', best))
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert all('.kernels.' in name for name in tuned.keys() - base.keys())
    world.run('eval_multiscale.py', 'own_mspe.py', 'own.pth', '--adapter', folder / 'adapter.safetensors', '--resolutions',
              '16', '64', '--methods', 'vanilla', 'mspe', '--out-dir', 'sweep')
    rows = {(row['method'], row['resolution'][0]): row for row in
            json.loads((world.folder / 'sweep/results.json').read_text())['rows']}
    assert rows['mspe', 16]['token_grid'] == [4, 4]
    assert rows['mspe', 64]['metrics'] == rows['vanilla', 64]['metrics']


def test_make_config_writes_a_config_that_init_model_takes(world):
    assert_python_runs(INFERENCE, world.folder, 'own_mspe.py', 'own.pth')


@pytest.mark.parametrize(('given', 'checkpoint', 'out', 'sentence'), [
    ('own.py', 'own.pth', 'mspe.yml', 'mspe.yml must end in .py'),
    ('own.py', 'own.pth', 'own_mspe.py', 'own_mspe.py exists'),
    ('own.py', 'gone.pth', 'new.py', 'checkpoint gone.pth does not exist'),
    ('gone.py', 'own.pth', 'new.py', 'config gone.py does not exist'),
    ('mspe_mm::gone.py', 'own.pth', 'new.py', 'there is no config mspe_mm::gone.py'),
    ('resnet.py', 'own.pth', 'new.py', 'ResNetV1c cannot be converted'),
    ('test_only.py', 'own.pth', 'new.py', 'has no train_dataloader'),
    ('untold.py', 'own.pth', 'new.py', 'does not say at which resolution its model was trained')])
def test_make_config_refuses_in_one_sentence(world, given, checkpoint, out, sentence):
    (world.folder / 'resnet.py').write_text("_base_ = './own.py'\nmodel = dict(backbone=dict(_delete_=True, "
                                            "type='ResNetV1c', depth=18))")
    (world.folder / 'test_only.py').write_text("_base_ = './own.py'\ntrain_dataloader = None")
    (world.folder / 'untold.py').write_text("_base_ = './own.py'\nmodel = dict(data_preprocessor=dict(size=None), "
                                            "backbone=dict(img_size=None), test_cfg=dict(mode='slide'))")
    assert sentence in world.fails('make_config.py', given, checkpoint, out)
    assert not (world.folder / 'new.py').exists()


def test_epochs_on_an_infinite_sampler_are_refused_before_training(world):
    (world.folder / 'endless.py').write_text("_base_ = './own.py'\nload_from = 'own.pth'\n"
                                             "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)")
    assert 'InfiniteSampler, whose epochs never end' in world.fails('train.py', 'endless.py')


def test_pretrained_file_is_not_wanted_beside_load_from(world):
    options = ['--work-dir', 'continued', '--cfg-options']
    assert 'vit_large_p16.pth, which init_cfg of VisionTransformer names, does not exist' in world.fails(
        'train.py', 'own.py', *options, 'load_from=None')
    world.call('train.py', 'own.py', *options, 'load_from=own.pth')
    assert (world.folder / 'continued/iter_2.pth').is_file()
    part = torch.load(world.folder / 'own.pth', weights_only=False)
    part['state_dict'] = {name: value for name, value in part['state_dict'].items() if name.startswith('decode_head.')}
    torch.save(part, world.folder / 'head.pth')
    assert 'checkpoint head.pth is not of this model' in world.fails('train.py', 'own.py', *options, 'load_from=head.pth')


def test_pretrained_file_is_not_fetched_beside_a_checkpoint_argument(world):
    world.call('test.py', 'own_mspe.py', 'own.pth', '--cfg-options',
               'model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=https://no.invalid/vit.pth')
    assert list((world.folder / 'work_dirs/own_mspe').glob('*/*.json'))
