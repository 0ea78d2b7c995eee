"""Tuning without a mask, by the command lines that users type."""
import shutil

import pytest
import torch

DISTILL = '''
load_from = 'base.pth'
model['tuning'] = dict(objective='distill')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader['dataset'] = dict(_delete_=True, type='ImageFolder', data_root='photographs', pipeline=train_pipeline)
'''
TRAINING_ALONE = ('val_cfg=None', 'val_dataloader=None', 'val_evaluator=None')


@pytest.fixture(scope='module')
def unlabelled(world):
    """The world with a folder of images and nothing else, and ``distill.py``."""
    shutil.copytree(world.folder / 'data/images/train', world.folder / 'photographs')
    world.write_config('setr_mspe_5e_synthetic', 'distill.py', DISTILL)
    return world


def test_a_folder_of_images_tunes_the_kernels_and_nothing_else(unlabelled):
    folder = unlabelled.folder
    unlabelled.call('train.py', 'distill.py')
    base, tuned = (torch.load(folder / path, weights_only=False)['state_dict']
                   for path in ('base.pth', 'work_dirs/distill/epoch_2.pth'))
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    kernels = {name: value for name, value in tuned.items() if '.kernels.' in name}
    assert tuned.keys() == base.keys() | kernels.keys()
    assert all(value.any() for value in kernels.values())
    log = next((folder / 'work_dirs/distill').glob('*/vis_data/scalars.json')).read_text()
    assert '"k4.loss_distill"' in log
    assert 'loss_ce' not in log
    unlabelled.call('test.py', 'mspe.py', 'base.pth', '--adapter', 'work_dirs/distill/adapter.safetensors')


@pytest.mark.parametrize('objective', ['task', 'both'])
def test_other_objectives_ask_for_annotations(unlabelled, objective):
    sentence = unlabelled.fails('train.py', 'distill.py', '--work-dir', 'refused', '--cfg-options',
                                f'model.tuning.objective={objective}', *TRAINING_ALONE)
    assert f"no annotations, and tuning.objective='{objective}' needs them" in sentence
    assert "set tuning.objective='distill'" in sentence


def test_a_folder_without_images(unlabelled):
    (unlabelled.folder / 'nothing').mkdir()
    for name, reason in (('nothing', 'there are no images in nothing'), ('nowhere', 'folder nowhere does not exist')):
        assert reason in unlabelled.fails('train.py', 'distill.py', '--work-dir', 'refused', '--cfg-options',
                                          f'train_dataloader.dataset.data_root={name}', *TRAINING_ALONE)
