"""The command lines on a small COCO data set: train, tune, test."""
import json
import runpy
import sys
from pathlib import Path

import cv2
import pytest
import torch
from det_helpers import CLASSES
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from stock_helpers import TRAIN_AND_TEST, added_by_tools, assert_python_runs
from tools_helpers import validated

ROOT = Path(__file__).parents[2]
CONFIG = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    data_preprocessor=dict(img_size=(64, 64)),
    backbone=dict(
        img_size=(64, 64), embed_dim=16, depth=2, num_heads=2, window_size=3, window_block_indexes=[0]),
    neck=dict(backbone_channel=16, in_channels=[4, 8, 16, 16], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=3),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8, num_classes=3)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20), rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.01, max_per_img=5)))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(data_root='{data}', ann_file='instances.json', metainfo=dict(classes={classes}))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{data}/instances.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
'''


@pytest.fixture(scope='module')
def world(coco, tmp_path_factory):
    """A folder with a base model trained in it, and its patch embedding tuned; the tools run in this process."""
    folder = tmp_path_factory.mktemp('world')
    for name in ('vitdet_coco128', 'vitdet_mspe_coco128'):
        (folder / f'{name}.py').write_text(CONFIG.format(root=ROOT, name=name, data=coco, classes=CLASSES))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        run(patch, 'train.py', 'vitdet_coco128.py')
        run(patch, 'train.py', 'vitdet_mspe_coco128.py', '--cfg-options', 'load_from=work_dirs/vitdet_coco128/epoch_2.pth')
    return folder


@pytest.fixture
def tool(world, monkeypatch):
    monkeypatch.chdir(world)
    return lambda *args: run(monkeypatch, *args)


def run(patch, name, *args):
    DetLocalVisualizer._instance_dict.clear()    # one for each process, and this one runs many tools
    patch.setattr(sys, 'argv', [name, *args])
    runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')


def last_metrics(folder):
    logs = sorted(folder.glob('*/*.json'))
    return json.loads(logs[-1].read_text().splitlines()[-1])


BASE, TUNED = 'work_dirs/vitdet_coco128/epoch_2.pth', 'work_dirs/vitdet_mspe_coco128/epoch_2.pth'


def state(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_only_theta_moved(world):
    before, after = state(world / BASE), state(world / TUNED)
    kernels = {f'backbone.patch_embed.kernels.{k}.{name}' for k in (4, 8, 12) for name in ('weight', 'bias')}
    assert not any('kernels' in name for name in before)
    assert after.keys() - before.keys() == kernels
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(after[name].any() for name in kernels)    # corrections, zero at the start
    assert (world / 'work_dirs/vitdet_mspe_coco128/adapter.safetensors').stat().st_size < 200_000


def test_a_folder_of_images_tunes_theta_alone(world, tool, coco):
    Path('distill.py').write_text(f"""
_base_ = './vitdet_mspe_coco128.py'
model = dict(tuning=dict(objective='distill'))
load_from = '{BASE}'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=(64, 64)),
    dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(_delete_=True, type='ImageFolder', data_root='{coco}', pipeline=train_pipeline))
""")
    tool('train.py', 'distill.py')
    before, after = state(BASE), state('work_dirs/distill/epoch_2.pth')
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(after[name].any() for name in after.keys() - before.keys())
    with pytest.raises(SystemExit, match=r'no annotations, and tuning.objective=.task. needs them'):
        tool('train.py', 'distill.py', '--cfg-options', 'model.tuning.objective=task')


def test_adapter_on_the_base_checkpoint_is_the_tuned_model(world, tool):
    tool('test.py', 'vitdet_mspe_coco128.py', TUNED, '--work-dir', 'full')
    tool('test.py', 'vitdet_mspe_coco128.py', BASE, '--adapter', 'work_dirs/vitdet_mspe_coco128/adapter.safetensors',
         '--work-dir', 'adapter')
    full, adapter = last_metrics(world / 'full'), last_metrics(world / 'adapter')
    names = [name for name in full if 'mAP' in name]
    assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'coco/bbox_mAP_s', 'coco/bbox_mAP_m',
            'coco/bbox_mAP_l', 'coco/segm_mAP'} <= set(names)
    assert {name: full[name] for name in names} == {name: adapter[name] for name in names}
    # At the base resolution both are the base model.
    tool('test.py', 'vitdet_coco128.py', BASE, '--work-dir', 'base')
    assert {name: last_metrics(world / 'base')[name] for name in names} == {name: full[name] for name in names}


def test_kernels_calibrated_on_images_of_any_aspect_ratio_go_on_the_base_checkpoint(world, tool, coco, capsys):
    smooth = world / 'smooth'
    smooth.mkdir()
    for path in sorted((coco / 'images').iterdir()):    # noise, made an image that neighbouring pixels say something of
        cv2.imwrite(str(smooth / f'{path.stem}.png'), cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 3))
    capsys.readouterr()
    tool('calibrate.py', 'vitdet_mspe_coco128.py', BASE, '--images', 'smooth', '--resolutions', '16', '32', '--out',
         'calibrated.safetensors')
    rows = [line.split('|') for line in capsys.readouterr().out.splitlines() if ' x ' in line]
    assert [(row[1].strip(), row[2].strip()) for row in rows] == [('16 x 16', '4'), ('32 x 32', '8')]
    assert all(float(row[5].strip()[:-1]) < float(row[4].strip()[:-1]) for row in rows)
    tool('test.py', 'vitdet_mspe_coco128.py', BASE, '--adapter', 'calibrated.safetensors', '--work-dir', 'calibrated',
         '--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(16,16)')
    measured = last_metrics(world / 'calibrated')
    tool('eval_multiscale.py', 'vitdet_mspe_coco128.py', BASE, '--calibrated', 'calibrated.safetensors', '--methods',
         'calibrated', '--resolutions', '16', '--out-dir', 'calibrated_sweep')
    (row, ) = json.loads((world / 'calibrated_sweep/results.json').read_text())['rows']
    assert row['kernel_size'] == [4, 4]
    assert set(row['metrics']) >= {'box AP', 'mask AP'}
    assert 'coco/bbox_mAP' in measured


def test_other_resolution_by_an_option(world, tool):
    tool('test.py', 'vitdet_mspe_coco128.py', TUNED, '--work-dir', 'small', '--out', 'predictions', '--show-dir', 'painted',
         '--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(32,32)', 'default_hooks.visualization.interval=1')
    assert 'coco/bbox_mAP' in last_metrics(world / 'small')
    boxes = [entry['bbox'] for entry in json.loads((world / 'predictions/results.bbox.json').read_text())]
    assert max(x + w for x, y, w, h in boxes) > 32    # in the original images, which are up to 90 px
    assert len(list((world / 'painted').rglob('*.png'))) == 5


def test_bfloat16_detects_with_nearly_the_same_scores(world, tool):
    scores = []
    for args in ([], ['--amp', '--channels-last']):
        tool('test.py', 'vitdet_mspe_coco128.py', TUNED, '--work-dir', 'speed', '--out', f'speed{len(args)}', *args)
        found = json.loads((world / f'speed{len(args)}/results.bbox.json').read_text())
        scores.append([max(entry['score'] for entry in found if entry['image_id'] == image)
                       for image in sorted({entry['image_id'] for entry in found})])
    assert len(scores[0]) == 5
    assert scores[1] == pytest.approx(scores[0], abs=0.01)
    assert scores[1] != scores[0]


@pytest.mark.parametrize(('args', 'sentence'), [
    (('train.py', 'vitdet_mspe_coco128.py', '--cfg-options', 'load_from=None'), 'tunes a trained model, and none is given'),
    (('test.py', 'vitdet_mspe_coco128.py', 'absent.pth'), 'checkpoint absent.pth does not exist'),
    (('test.py', 'vitdet_coco128.py', TUNED), r'epoch_2.pth is not of this model: .*6 unexpected'),
    (('test.py', 'vitdet_mspe_coco128.py', BASE, '--cfg-options', 'model.backbone.type=ResNet', 'model.backbone.depth=18',
      'model.backbone._delete_=True'), 'needs a backbone with an MSPE layer, and ResNet has none'),
    (('test.py', 'vitdet_mspe_coco128.py', BASE, '--cfg-options', 'model.roi_head.bbox_head.num_classes=4',
      'model.roi_head.mask_head.num_classes=4', 'strict_load=False'), 'bbox_head.num_classes=4, and .*3 classes'),
    (('train.py', 'vitdet_mspe_coco128.py', '--cfg-options', f'load_from={BASE}',
      'train_dataloader.dataset.pipeline.2.scale=(96,96)'), 'a training batch is 96 x 96 px'),
])
def test_bad_input_ends_in_one_sentence(args, sentence, tool):
    with pytest.raises(SystemExit, match=sentence) as ended:
        tool(*args, '--work-dir', 'refused')
    assert str(ended.value).startswith('error: ')
    assert '\n' not in str(ended.value)


@pytest.mark.parametrize('name', ['vitdet_coco', 'vitdet_mspe_coco', 'vitdet_mspe_5e_coco', 'vitdet_coco128',
                                  'vitdet_mspe_coco128', 'vitdet_synthetic', 'vitdet_lsj_synthetic',
                                  'vitdet_mspe_synthetic'])
def test_configs_are_complete(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    assert cfg.custom_imports == dict(
        imports=['mspe_mm.det', 'mspe_mm.evaluation.validation'], allow_failed_imports=False)
    assert cfg.default_scope == 'mmdet'
    assert cfg.model.data_preprocessor.img_size == cfg.model.backbone.img_size
    assert cfg.test_dataloader.dataset.pipeline[1].scale == cfg.model.backbone.img_size[::-1]
    assert dict(type='DatasetCheckHook') in cfg.custom_hooks
    if 'mspe' in name:
        assert cfg.model.type == 'MSPEMaskRCNN'
        assert cfg.load_from
        if name == 'vitdet_mspe_5e_coco':    # the paper's recipe
            assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4)
        assert dict(type='AdapterHook') in cfg.custom_hooks
    else:
        assert cfg.model.type == 'MaskRCNN'
        assert cfg.model.backbone.kernel_sizes == (16, )


def test_token_budgets(world, tool):
    tool('eval_multiscale.py', 'vitdet_mspe_coco128.py', TUNED, '--resolutions', '32', '--token-grid', '2', '4',
         '--methods', 'vanilla', 'img_resize', 'mspe', '--out-dir', 'budgets')
    rows = {(row['method'], row['token_grid'][0]): row
            for row in json.loads((world / 'budgets/results.json').read_text())['rows']}
    assert {point: row['kernel_size'] for point, row in rows.items()} == {
        ('vanilla', 2): [16, 16], ('vanilla', 4): [16, 16], ('img_resize', 2): [16, 16], ('img_resize', 4): [16, 16],
        ('mspe', 2): [16, 16], ('mspe', 4): [8, 8]}
    for key in ('metrics', 'gflops'):    # images of 32 px are those of 2 x 2 tokens, for neck and heads too
        assert rows['mspe', 2][key] == rows['img_resize', 2][key] == rows['vanilla', 2][key]
    assert rows['mspe', 2]['gflops'] < rows['mspe', 4]['gflops']
    assert 'box AP' in rows['mspe', 2]['metrics']


def test_multi_scale_evaluation(world, tool, capsys):
    tool('eval_multiscale.py', 'vitdet_mspe_coco128.py', TUNED, '--resolutions', '30', '32', '64', '96',
         '--out-dir', 'sweep')
    results = json.loads((world / 'sweep/results.json').read_text())
    rows = {(row['method'], row['resolution'][0]): row for row in results['rows']}
    assert len(rows) == 5 * 4
    # The canvas of a 30 px image is 32 x 32: 8 px for each of the 4 x 4 tokens; the stock model has 16 px patches.
    assert (rows['mspe', 30]['kernel_size'], rows['mspe', 30]['token_grid']) == ([8, 8], [4, 4])
    assert (rows['vanilla', 30]['kernel_size'], rows['vanilla', 30]['token_grid']) == ([16, 16], [2, 2])
    assert (rows['img_resize', 30]['kernel_size'], rows['img_resize', 30]['token_grid']) == ([16, 16], [4, 4])
    # All are one model at the base resolution, and it is what test.py measures.
    tool('test.py', 'vitdet_mspe_coco128.py', TUNED, '--work-dir', 'at_base')
    measured = last_metrics(world / 'at_base')
    for method in ('vanilla', 'img_resize', 'flexivit', 'prior', 'mspe'):
        metrics = rows[method, 64]['metrics']
        assert metrics['box AP'] == pytest.approx(100 * measured['coco/bbox_mAP'])
        assert metrics['mask APs'] == pytest.approx(100 * measured['coco/segm_mAP_s'])
    while_tuning = validated(world / 'work_dirs/vitdet_mspe_coco128')
    assert rows['mspe', 32]['metrics']['box AP'] == pytest.approx(100 * while_tuning['coco/bbox_mAP@1/2'], abs=0.05)
    out = capsys.readouterr().out
    assert 'box AP' in out
    assert 'mask AP50' in out
    assert (world / 'sweep/curve.png').stat().st_size > 10_000


INFERENCE = '''
import sys
import numpy as np
from mmdet.apis import inference_detector, init_detector
model = init_detector(sys.argv[1], sys.argv[2], device='cpu')
assert inference_detector(model, np.zeros((64, 64, 3), np.uint8)).pred_instances is not None
'''


def test_dumped_config_runs_by_the_stock_runner_and_init_detector(world):
    dumped = world / 'work_dirs/vitdet_mspe_coco128/vitdet_mspe_coco128.py'
    assert added_by_tools(dumped) == []
    assert_python_runs(TRAIN_AND_TEST, world, dumped)
    assert (world / 'stock/adapter.safetensors').is_file()
    assert_python_runs(INFERENCE, world, dumped, TUNED)
