"""Broken images, annotations, configs and arguments: each is refused in one sentence, and nothing is written."""
from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fault_helpers import Run
from mmengine.config import Config
from safetensors.torch import load_file
from tools_helpers import ROOT, World

import mspe_mm.cls
import mspe_mm.seg  # noqa: F401
from mspe_mm.data.synthetic import write_synthetic
from mspe_mm.models.adapter import save_adapter
from mspe_mm.models.find import find_patch_embed
from mspe_mm.runtime import cli

CONFIG = '''
_base_ = '{root}/configs/setr_mspe_5e_synthetic.py'
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, ),
                  kernel_sizes=(2, 4, 8)),
    decode_head=dict(in_channels=16, channels=16))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data', pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'base.pth'
train_cfg = dict(max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
'''
TRAIN = ('train.py', 'mspe.py')
TEST = ('test.py', 'mspe.py', 'base.pth')
SWEEP = ('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--out-dir', 'out')
CALIBRATE = ('calibrate.py', 'mspe.py', 'base.pth', '--images', 'data/images/train', '--out', 'out.safetensors')
PANELS = ('show_panels.py', 'mspe.py', 'base.pth', '--out', 'panels.png', '--resolutions')
SYNTHETIC = ('make_synthetic.py', 'made')


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> World:
    """``mspe.py``, ``base.pth`` and ``adapter.safetensors`` of a model that nobody has trained, and ``data``."""
    world = World(tmp_path_factory.mktemp('broken'))
    write_synthetic(world.folder / 'data', num_train=4, num_val=2, size=(32, 32), seed=0)
    (world.folder / 'mspe.py').write_text(CONFIG.format(root=ROOT))
    (world.folder / 'a_file').write_text('text')
    model = cli.build_model(Config.fromfile(world.folder / 'mspe.py'))
    torch.save(dict(state_dict=model.state_dict()), world.folder / 'base.pth')
    save_adapter(find_patch_embed(model), world.folder / 'adapter.safetensors')
    return world


def written(folder: Path) -> set[str]:
    """Files of a folder but for logs, and the configs that runs dump beside them."""
    logs = ('work_dirs', 'log')
    return {str(path) for path in folder.rglob('*') if not path.is_dir() and not {*path.relative_to(folder).parts} & {*logs}}


def refusal(world: World, capsys: pytest.CaptureFixture, *args: object) -> str:
    """The sentence with which a tool refuses its input, having written nothing."""
    before = written(world.folder)
    with pytest.raises(SystemExit) as exit_:
        world.call(*args)
    printed = capsys.readouterr().err
    assert written(world.folder) == before
    if exit_.value.code == 2:    # argparse: the usage, and a sentence
        return printed.strip().splitlines()[-1]
    assert str(exit_.value.code).startswith('error: '), exit_.value.code
    assert '\n' not in exit_.value.code
    assert 'Traceback' not in printed
    return exit_.value.code


ARGUMENTS = {
    'no arguments': (('train.py', ), 'the following arguments are required: config'),
    'unknown option': ((*TRAIN, '--magic'), 'unrecognized arguments: --magic'),
    'unknown launcher': ((*TRAIN, '--launcher', 'magic'), "invalid choice: 'magic'"),
    'missing config': (('train.py', 'nowhere.py'), 'config nowhere.py does not exist'),
    'a folder as config': (('train.py', 'data'), 'config data does not exist'),
    'cfg option without a value': ((*TRAIN, '--cfg-options', 'a.b'), '--cfg-options'),
    'work dir that is a file': ((*TRAIN, '--work-dir', 'a_file'), 'a_file'),
    'work dir inside a file': ((*TRAIN, '--work-dir', 'a_file/x'), 'a_file'),
    'missing checkpoint': (('test.py', 'mspe.py', 'nowhere.pth'), 'nowhere.pth does not exist'),
    'no checkpoint': (('test.py', 'mspe.py'), 'give a CHECKPOINT after the config'),
    'missing adapter': ((*TEST, '--adapter', 'nowhere.safetensors'), 'nowhere.safetensors'),
    'float16 on a CPU': ((*TEST, '--amp', 'float16'), '--amp float16 needs a GPU'),
    'unknown precision': ((*TEST, '--amp', 'int8'), "invalid choice: 'int8'"),
    'tta without a pipeline': ((*TEST, '--tta'), 'has no tta_pipeline'),
    'out that is a file': ((*TEST, '--out', 'a_file'), 'a_file'),
    'no resolutions': (SWEEP, '--resolutions or --token-grid must be given'),
    'resolution of zero': ((*SWEEP, '--resolutions', 0), "'0' is not a resolution"),
    'negative resolution': ((*SWEEP, '--resolutions', '-16'), "'-16' is not a resolution"),
    'resolution of three numbers': ((*SWEEP, '--resolutions', '8x8x3'), "'8x8x3' is not a resolution"),
    'resolution of a fraction': ((*SWEEP, '--resolutions', '16.5'), "'16.5' is not a resolution"),
    'resolution in words': ((*SWEEP, '--resolutions', 'small'), "'small' is not a resolution"),
    'resolution beyond memory': ((*SWEEP, '--resolutions', 99999), '99999 x 99999 px is more than 8 times the base'),
    'width beyond memory': ((*SWEEP, '--resolutions', '32x257'), '32 x 257 px is more than 8 times the base'),
    'token grid of zero': ((*SWEEP, '--token-grid', 0), "'0' is not a token grid"),
    'token grid beyond memory': ((*SWEEP, '--token-grid', 999), 'has 998001 tokens, more than 16 times'),
    'negative bootstrap': ((*SWEEP, '--resolutions', 16, '--bootstrap', -1), "'-1' is not a whole number of at least 0"),
    'bootstrap of a fraction': ((*SWEEP, '--resolutions', 16, '--bootstrap', 1.5), "'1.5' is not a whole number"),
    'unknown method': ((*SWEEP, '--resolutions', 16, '--methods', 'magic'), "invalid choice: 'magic'"),
    'method without its file': ((*SWEEP, '--resolutions', 16, '--methods', 'calibrated'), 'needs --calibrated FILE'),
    'out dir that is a file': ((*SWEEP[:-1], 'a_file', '--resolutions', 16), 'a_file'),
    'out dir inside a file': ((*SWEEP[:-1], 'a_file/x', '--resolutions', 16), 'a_file'),
    'unknown degradation': ((*SWEEP, '--resolutions', 16, '--degrade', 'by_magic'), 'has no pipeline by_magic'),
    'calibration beyond memory': ((*CALIBRATE, '--resolutions', 99999), '99999 x 99999 px is more than 8 times the base'),
    'no images to calibrate': ((*CALIBRATE, '--num-images', 0), "'0' is not a whole number of at least 1"),
    'one image to calibrate': ((*CALIBRATE, '--num-images', 1), 'calibrating takes two images at least'),
    'share of one': ((*CALIBRATE, '--holdout', 1), "invalid share value: '1'"),
    'negative ridge': ((*CALIBRATE, '--ridge', -1), "invalid ridge value: '-1'"),
    'missing images': ((*CALIBRATE[:4], 'nowhere', *CALIBRATE[5:]), 'folder nowhere does not exist'),
    'nothing to merge': (('merge_adapter.py', 'mspe.py', 'base.pth', '--out', 'm.pth'), 'there is nothing to merge'),
    'merging into a folder': (('merge_adapter.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--out',
                               'data'), 'data'),
    'no panels': ((*PANELS, 16, '--images', 0), "'0' is not a whole number of at least 1"),
    'more panels than images': ((*PANELS, 16, '--images', 9), 'must be from 1 to the 2 images of the test set'),
    'panels beyond memory': ((*PANELS, '99999'), '99999 x 99999 px is more than 8 times the base'),
    'synthetic images of no size': ((*SYNTHETIC, '--size', 0, 8), "'0' is not a whole number of at least 1"),
    'no synthetic images': ((*SYNTHETIC, '--train', -3), "'-3' is not a whole number of at least 1"),
}


@pytest.mark.parametrize('case', ARGUMENTS)
def test_argument_is_refused(world, capsys, case):
    args, sentence = ARGUMENTS[case]
    assert sentence in refusal(world, capsys, *args)


OPTIONS = {
    'misspelt key of tuning': ('model.tuning.samplin=double', "tuning has no setting 'samplin': did you mean 'sampling'?"),
    'misspelt key of the backbone': ('model.backbone.kernel_size=8', "did you mean 'kernel_sizes'?"),
    'misspelt key of the downsampling model': ('model.backbone.downsampling.antialas=True', "did you mean 'antialias'?"),
    'misspelt key of the head': ('model.decode_head.chanels=8', "did you mean 'channels'?"),
    'misspelt type of the head': ('model.decode_head.type=SETRUPHed', "did you mean 'SETRUPHead'?"),
    'misspelt type of the model': ('model.type=MSPEEncoderDecode', "did you mean 'MSPEEncoderDecoder'?"),
    'misspelt type of a transform': ('train_dataloader.dataset.pipeline.2.type=RandomFlp', "did you mean 'RandomFlip'?"),
    'misspelt argument of a transform': ('train_dataloader.dataset.pipeline.2.prb=0.5', "did you mean 'prob'?"),
    'misspelt type of the data set': ('train_dataloader.dataset.type=BaseSegDatset', "did you mean 'BaseSegDataset'?"),
    'misspelt type of a hook': ('default_hooks.logger.type=LogerHook', "did you mean 'LoggerHook'?"),
    'misspelt argument of the optimizer': ('optim_wrapper.optimizer.momentun=0.5', "did you mean 'momentum'?"),
    'type of another library': ('model.type=mmdet.MaskRCNN', 'MaskRCNN'),
    'unknown interpolation': ('model.backbone.downsampling.interpolation=magic', "unknown interpolation 'magic'"),
    'kernels without the base': ('model.backbone.kernel_sizes=[2,4]', 'must include the patch size 8'),
    'model that is a number': ('model=3', 'has no model'),
    'model without a type': ('model.type=', 'model'),
    'no training data': ('train_dataloader=None', 'train_dataloader'),
    'batch of no image': ('train_dataloader.batch_size=0', 'batch_size'),
    'batch of a fraction': ('train_dataloader.batch_size=1.5', 'batch_size'),
    'negative number of workers': ('train_dataloader.num_workers=-1', 'num_workers'),
    'persistent workers without workers': ('train_dataloader.persistent_workers=True', 'persistent_workers'),
    'missing folder': ('train_dataloader.dataset.data_root=nowhere', 'nowhere'),
    'tuning without a checkpoint': ('load_from=None', 'load_from=CHECKPOINT'),
    'base resolution that the crops have not': ('model.backbone.img_size=(64,64)', 'base'),
    'distilling what is frozen': ('model.tuning.objective=magic', 'magic'),
}


@pytest.mark.parametrize('case', OPTIONS)
def test_setting_is_refused(world, capsys, case):
    option, sentence = OPTIONS[case]
    assert sentence in refusal(world, capsys, *TRAIN, '--cfg-options', option)


CONFIGS = {
    'syntax': ('model = dict(', 'cannot be read'),
    'missing base': ("_base_ = './missing.py'", 'cannot be read'),
    'unknown name': ('model = nothing', 'cannot be read'),
    'division by zero': ('a = 1 / 0', 'cannot be read'),
    'no text': (b'\xff\xfe\x00', 'cannot be read'),
    'empty': ('', 'has no model'),
    'a list as model': ('model = [1]', 'has no model'),
    'missing package': ("custom_imports = dict(imports=['no_such_package'], allow_failed_imports=False)", 'cannot be read'),
    'pretrained file that is missing': ("load_from = None\nmodel = dict(tuning=None, "
                                        "backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='gone.pth')))",
                                        'gone.pth, which init_cfg of MSPEViT names, does not exist'),
}


@pytest.mark.parametrize('case', CONFIGS)
def test_config_is_refused(world, capsys, case):
    text, sentence = CONFIGS[case]
    path = world.folder / 'broken.py'
    based = "_base_ = './mspe.py'\n" if 'init_cfg' in str(text) else ''
    path.write_bytes(text if isinstance(text, bytes) else (based + text).encode())
    assert sentence in refusal(world, capsys, 'train.py', 'broken.py')


def test_pretrained_file_is_not_wanted_beside_a_whole_checkpoint(world):
    (world.folder / 'given.py').write_text("_base_ = './mspe.py'\nmodel = dict(backbone=dict(init_cfg=dict("
                                           "type='Pretrained', checkpoint='gone.pth')))")
    world.call('train.py', 'given.py')
    assert (world.folder / 'work_dirs/given/adapter.safetensors').is_file()


def test_config_without_custom_imports_is_told_what_to_import(world):
    text = (world.folder / 'mspe.py').read_text()
    (world.folder / 'not_imported.py').write_text(f'{text}\ncustom_imports = None\n')
    done = world.run('test.py', 'not_imported.py', 'base.pth', check=False)
    assert done.returncode == 1
    assert "add custom_imports=dict(imports=['mspe_mm.seg'], allow_failed_imports=False)" in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr


def test_masks_of_ignored_pixels_alone_train_with_a_loss_of_zero_and_leave_the_kernels(world, tmp_path):
    write_synthetic(tmp_path / 'data', num_train=4, num_val=2, size=(32, 32), seed=0)
    for path in (tmp_path / 'data/annotations/train').iterdir():
        png(path, np.full((32, 32), 255, np.uint8))
    world.call(*TRAIN, '--work-dir', tmp_path / 'out', '--cfg-options', 'default_hooks.logger.interval=1',
               'model.tuning.objective=task', f'train_dataloader.dataset.data_root={tmp_path / "data"}')
    (scalars, ) = (tmp_path / 'out').glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [line['loss'] for line in logged] == [0] * len(logged) != []
    tuned = load_file(tmp_path / 'out/adapter.safetensors')
    start = load_file(world.folder / 'adapter.safetensors')
    assert tuned.keys() == start.keys()
    assert all(torch.equal(tuned[name], start[name]) for name in tuned)


def png(path: Path, array: np.ndarray) -> None:
    assert cv2.imwrite(str(path), array)


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


ZEROS = np.zeros((32, 32), np.uint8)
FILES = {
    'empty image': ('images', lambda path: path.write_bytes(b''), 'cannot be decoded'),
    'text as image': ('images', lambda path: path.write_text('no picture'), 'cannot be decoded'),
    'truncated image': ('images', lambda path: path.write_bytes(path.read_bytes()[:40]), 'cannot be decoded'),
    'image that is a link to itself': ('images', link_to_itself, '00002.png'),
    'image of one pixel': ('images', lambda path: png(path, ZEROS[:1, :1]), 'px'),
    'image of another size': ('images', lambda path: png(path, np.zeros((40, 32, 3), np.uint8)), '40 x 32 px'),
    'missing mask': ('annotations', lambda path: path.unlink(), 'does not exist'),
    'empty mask': ('annotations', lambda path: path.write_bytes(b''), 'cannot be decoded'),
    'truncated mask': ('annotations', lambda path: path.write_bytes(path.read_bytes()[:40]), 'cannot be decoded'),
    'mask of another size': ('annotations', lambda path: png(path, ZEROS[:30]), 'must have one size'),
    'mask of one pixel': ('annotations', lambda path: png(path, ZEROS[:1, :1]), 'is one pixel wide or high'),
    'mask that is a dangling link': (
        'annotations', lambda path: (path.unlink(), path.symlink_to('gone.png')), 'does not exist'),
    'mask in colour': ('annotations', lambda path: png(path, np.zeros((32, 32, 3), np.uint8)), 'channels'),
    'mask with a transparent colour': ('annotations', lambda path: png(path, np.zeros((32, 32, 4), np.uint8)), 'channels'),
    'mask of 16 bits that wraps': ('annotations', lambda path: png(path, np.full((32, 32), 258, np.uint16)), 'class 258'),
    'class that the model lacks': ('annotations', lambda path: png(path, ZEROS + 77), 'holds class 77'),
    'mask that is a link to itself': ('annotations', link_to_itself, '00002.png'),
}


@pytest.mark.parametrize('case', FILES)
def test_file_is_refused_by_name(world, capsys, tmp_path, case):
    folder, break_, sentence = FILES[case]
    write_synthetic(tmp_path / 'data', num_train=4, num_val=2, size=(32, 32), seed=0)
    break_(tmp_path / 'data' / folder / 'train/00002.png')
    said = refusal(world, capsys, *TRAIN, '--cfg-options', f'train_dataloader.dataset.data_root={tmp_path / "data"}')
    assert sentence in said
    assert '00002.png' in said or 'px' in said


def test_images_of_two_sizes_are_refused_together(world, capsys, tmp_path):
    write_synthetic(tmp_path / 'data', num_train=4, num_val=2, size=(32, 32), seed=0)
    for folder in ('images', 'annotations'):
        path = tmp_path / 'data' / folder / 'train/00002.png'
        png(path, np.zeros((48, 32, *([3] if folder == 'images' else [])), np.uint8))
    said = refusal(world, capsys, *TRAIN, '--cfg-options', f'train_dataloader.dataset.data_root={tmp_path / "data"}')
    assert 'px' in said


def obey_permissions() -> None:
    """Give up the two capabilities by which root reads every folder of Linux, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc, version = ctypes.CDLL(None), 0x20080522
    header, sets = (ctypes.c_uint32 * 2)(version, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110    # of the effective ones
    assert libc.capset(header, sets) == 0


def test_folder_that_must_not_be_read_is_named(world, tmp_path):
    write_synthetic(tmp_path / 'data', num_train=4, num_val=2, size=(32, 32), seed=0)
    before = written(world.folder)
    (tmp_path / 'data/images/train').chmod(0)
    run = Run(world.folder, *TRAIN, '--cfg-options', f'train_dataloader.dataset.data_root={tmp_path / "data"}',
              before=obey_permissions if os.geteuid() == 0 else None, log=tmp_path / 'printed.txt')
    code = run.wait()
    (tmp_path / 'data/images/train').chmod(0o700)
    assert code == 1
    assert 'Traceback' not in run.printed()
    said = run.printed().splitlines()[-1]
    assert said.startswith('error: ')
    assert 'images/train' in said
    assert written(world.folder) == before
