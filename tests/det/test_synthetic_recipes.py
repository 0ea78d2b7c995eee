"""The recipes of the synthetic detection set, from the generator to the sweep."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import METRICS
from tools_helpers import ROOT, World

from mspe_mm.data.scenes import CLASSES, OBJECT_CLASSES, PALETTE

PRETRAINED = '''
_base_ = '{root}/configs/setr_vitdet_synthetic.py'
model = dict(
    backbone=dict(embed_dim=16, depth=2, num_heads=2, window_block_indexes=[0]),
    decode_head=dict(in_channels=16, channels=16))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
param_scheduler = []
train_cfg = dict(max_epochs=5, val_interval=5)
'''
TINY = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    backbone=dict(embed_dim=16, depth=2, num_heads=2, window_block_indexes=[0]),
    neck=dict(backbone_channel=16, in_channels=[4, 8, 16, 16], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(rcnn=dict(score_thr=0.01, max_per_img=5)))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
{more}
'''

MORE = '''
model['backbone']['kernel_sizes'] = (4, 8, 16)    # a batch of two images has both that train
load_from = 'work_dirs/vitdet_synthetic/epoch_1.pth'
'''


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> World:
    """The data set, a pretrained backbone, base models trained on it in two steps, and a patch embedding tuned in two."""
    world = World(tmp_path_factory.mktemp('synthetic_detection'))
    made = world.run('make_synthetic.py', 'data/synthetic_detection', '--task', 'detection', '--train', 4, '--val', 3)
    assert '4 training and 3 validation images of 192 x 192 px' in made.stdout
    assert '7/7' in made.stderr    # the progress bar
    (world.folder / 'setr_vitdet_synthetic.py').write_text(PRETRAINED.format(root=ROOT))
    world.run('train.py', 'setr_vitdet_synthetic.py')
    for name, more in (('vitdet_synthetic', ''), ('vitdet_mspe_synthetic', MORE), ('vitdet_lsj_synthetic', '')):
        (world.folder / f'{name}.py').write_text(TINY.format(root=ROOT, name=name, more=more))
        world.run('train.py', f'{name}.py')
    return world


@pytest.fixture
def settings(world, monkeypatch) -> Config:
    """The config of the base model, in the folder of the data set."""
    monkeypatch.chdir(world.folder)
    return Config.fromfile('vitdet_synthetic.py')


def test_recipe_names_the_classes_and_colours_in_order(settings):
    for loader in (settings.train_dataloader, settings.val_dataloader, settings.test_dataloader):
        assert loader.dataset.metainfo.classes == OBJECT_CLASSES
    grounds = len(CLASSES) - len(OBJECT_CLASSES)
    assert [tuple(colour) for colour in settings.metainfo.palette] == list(PALETTE[grounds:])
    assert settings.model.roi_head.bbox_head.num_classes == settings.model.roi_head.mask_head.num_classes == 8


def test_ground_truth_as_prediction_has_an_ap_of_100(settings):
    dataset = DATASETS.build(settings.val_dataloader.dataset)
    metric = METRICS.build(settings.val_evaluator)
    metric.dataset_meta = dataset.metainfo
    assert len(dataset) == 3
    for item in dataset:
        sample = item['data_samples']
        truth = sample.gt_instances
        assert tuple(item['inputs'].shape) == (3, 192, 192)
        predicted = dict(
            bboxes=truth.bboxes.tensor, labels=truth.labels, scores=torch.ones(len(truth)),
            masks=truth.masks.to_tensor(torch.bool, 'cpu'))
        metric.process({}, [dict(sample.metainfo, pred_instances=predicted)])
    measured = metric.evaluate(size=len(dataset))
    assert measured['coco/bbox_mAP'] == measured['coco/segm_mAP'] == 1


def test_training_images_keep_their_objects(settings):
    dataset = DATASETS.build(settings.train_dataloader.dataset)
    annotated = json.loads(Path('data/synthetic_detection/annotations/instances_train.json').read_text())
    assert len(dataset) == 4
    assert sum(len(item['data_samples'].gt_instances) for item in dataset) == len(annotated['annotations'])


def test_jitter_shows_objects_of_other_sizes(world, settings):
    jittered = Config.fromfile('vitdet_lsj_synthetic.py')
    torch.manual_seed(0)
    np.random.seed(0)
    dataset, stock = (DATASETS.build(cfg.train_dataloader.dataset) for cfg in (jittered, settings))
    heights = set()
    for index in range(4):
        whole = max(stock[index]['data_samples'].gt_instances.bboxes.areas.sqrt())
        for item in (dataset[index] for _ in range(3)):
            sample = item['data_samples']
            assert item['inputs'].shape[-2:] == sample.img_shape == sample.gt_instances.masks.masks.shape[1:]
            assert max(sample.img_shape) <= 192
            assert (sample.gt_instances.bboxes.tensor <= 192).all()
            assert max(sample.gt_instances.bboxes.areas.sqrt()) <= 1.6 * whole
            heights.add(sample.img_shape[0])
    assert min(heights) < 160
    assert (world.folder / 'work_dirs/vitdet_lsj_synthetic/epoch_1.pth').exists()


def test_detector_starts_from_the_whole_pretrained_backbone(world, settings):
    pretrained = torch.load(world.folder / 'work_dirs/setr_vitdet_synthetic/epoch_5.pth', weights_only=False)['state_dict']
    model = MODELS.build(settings.model)
    model.init_weights()
    weights = model.backbone.state_dict()
    assert weights
    assert all(torch.equal(value, pretrained[f'backbone.{name}']) for name, value in weights.items())


def test_tuning_moves_theta_alone(world):
    before, after = (torch.load(world.folder / f'work_dirs/{name}/epoch_1.pth', weights_only=False)['state_dict']
                     for name in ('vitdet_synthetic', 'vitdet_mspe_synthetic'))
    kernels = after.keys() - before.keys()
    assert {name.split('.')[3] for name in kernels} == {'4', '8'}
    assert all(after[name].any() for name in kernels)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_sweep_reports_box_and_mask_ap_of_every_resolution(world):
    world.run('eval_multiscale.py', 'vitdet_mspe_synthetic.py', 'work_dirs/vitdet_synthetic/epoch_1.pth', '--adapter',
              'work_dirs/vitdet_mspe_synthetic/adapter.safetensors', '--resolutions', 48, 96, 192, '--methods', 'prior',
              'mspe', '--out-dir', 'sweep')
    rows = json.loads((world.folder / 'sweep/results.json').read_text())['rows']
    assert {(row['method'], row['resolution'][0], row['kernel_size'][0]) for row in rows} == {
        (method, resolution, resolution // 12) for method in ('prior', 'mspe') for resolution in (48, 96, 192)}
    assert all({'box AP', 'mask AP'} <= row['metrics'].keys() for row in rows)
