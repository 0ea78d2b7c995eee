"""The hosts' own configs, as configs that tune."""
from pathlib import Path

import mmdet
import mmseg
import pytest
from mmengine.config import Config
from mmseg.models.segmentors import EncoderDecoder

from mspe_mm.errors import InputError
from mspe_mm.models.find import find_patch_embed
from mspe_mm.runtime import cli
from mspe_mm.runtime.stock_config import base_resolution
from mspe_mm.runtime.tuning_config import IMAGES_SEEN, changes, fit_to_layer, tuning_config

SEG, DET = (Path(host.__file__).parent / '.mim/configs' for host in (mmseg, mmdet))
SMALL = [    # config, base resolution, patch size, kernel policy, objective
    (SEG / 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', (512, 512), 4, 'isotropic', 'task+features'),
    (SEG / 'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py', (512, 512), 16, 'fixed', 'task+features'),
    (DET / 'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py', (1344, 1344), 4, 'fixed', 'task')]
LARGE = [    # config, base resolution, type of the backbone
    (SEG / 'setr/setr_vit-l_mla_8xb2-160k_ade20k-512x512.py', (512, 512), 'MSPEViT'),
    (SEG / 'setr/setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py', (768, 768), 'MSPEViT'),
    (SEG / 'vit/vit_vit-b16-ln_mln_upernet_8xb2-160k_ade20k-512x512.py', (512, 512), 'MSPEViT'),
    (SEG / 'dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py', (512, 512), 'VisionTransformer'),    # positions of 224 px
    (SEG / 'beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py', (640, 640), 'BEiT'),
    (SEG / 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py', (512, 512), 'SwinTransformer'),
    (DET / 'swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py', (1344, 1344), 'SwinTransformer')]


@pytest.mark.parametrize(('path', 'resolution', 'patch', 'policy', 'objective'), SMALL,
                         ids=lambda value: getattr(value, 'stem', ''))
def test_tuning_config_of_a_host_builds(path, resolution, patch, policy, objective):
    cfg = tuning_config(cli.read_config(path), 'own.pth')
    layer = find_patch_embed(cli.build_model(cfg))
    assert (layer.base_resolution, layer.patch_size, layer.kernel_policy) == (resolution, patch, policy)
    assert layer.downsampling.correlation == 0.99
    assert cfg.model.tuning.objective == objective
    assert 'init_cfg=dict' not in str(cfg.model.backbone)


@pytest.mark.parametrize(('path', 'resolution', 'backbone'), LARGE, ids=lambda value: getattr(value, 'stem', ''))
def test_tuning_config_reads_the_base_resolution_of_a_host(path, resolution, backbone):
    cfg = tuning_config(cli.read_config(path), 'own.pth')
    assert base_resolution(cfg) == resolution
    assert cfg.model.backbone.type == backbone
    layer = cfg.model.get('patch_embed') or cfg.model.backbone
    assert layer.get('base_resolution', layer.get('img_size')) == resolution


@pytest.mark.parametrize('path', [SMALL[0][0], SMALL[2][0], LARGE[0][0]], ids=lambda path: path.stem)
def test_changes_on_top_of_the_hosts_config_are_the_tuning_config(path, tmp_path):
    before = cli.read_config(path)
    after = tuning_config(before, 'own.pth')
    text = Config(changes(before.to_dict(), after.to_dict())).pretty_text
    (tmp_path / 'tuned.py').write_text(f'_base_ = {str(path)!r}\n{text}')
    assert Config.fromfile(tmp_path / 'tuned.py').to_dict() == {**after.to_dict(), 'work_dir': None}


@pytest.mark.parametrize('path', [SMALL[0][0], SMALL[2][0]], ids=lambda path: path.stem)
def test_tuning_config_sees_as_many_images_with_any_sampler(path):
    before = cli.read_config(path)
    cfg = tuning_config(before, 'own.pth')
    assert cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert 0 <= cfg.train_cfg.max_iters * cfg.train_dataloader.batch_size - IMAGES_SEEN < 5 * cfg.train_dataloader.batch_size
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0    # the last step is validated
    assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
    assert cfg.train_dataloader.sampler == before.train_dataloader.sampler
    assert not cfg.get('auto_scale_lr', {}).get('enable')


def test_the_learning_rate_is_a_share_of_the_pretrained_kernel_and_kernels_are_dense():
    cfg = tuning_config(cli.read_config(SMALL[1][0]), 'own.pth')
    fit_to_layer(cfg, find_patch_embed(cli.build_model(cfg)))
    assert cfg.optim_wrapper.optimizer.lr == 0.01
    assert cfg.model.backbone.kernel_sizes == (1, 2, 3, 4, 6, 8, 12, 16)
    layer = find_patch_embed(cli.build_model(cfg))
    assert layer.own_sizes == [1, 2, 3, 4, 6, 8, 12]
    assert layer.parameterization == 'relative'


def test_kernels_that_a_config_chose_stay():
    cfg = tuning_config(cli.read_config(SMALL[1][0]), 'own.pth')
    cfg.model.backbone.kernel_sizes = (8, 16)
    fit_to_layer(cfg, find_patch_embed(cli.build_model(cfg)))
    assert cfg.model.backbone.kernel_sizes == (8, 16)


def test_kernels_of_a_backbone_without_an_mspe_version_are_those_of_its_layer():
    cfg = tuning_config(cli.read_config(SMALL[0][0]), 'own.pth')
    fit_to_layer(cfg, find_patch_embed(cli.build_model(cfg)))
    assert cfg.model.patch_embed.kernel_sizes == (1, 2, 3, 4)


def test_tuning_config_refuses_a_model_without_counterpart():
    with pytest.raises(InputError, match='there is no MSPEYOLOX, so the model'):
        tuning_config(cli.read_config(DET / 'yolox/yolox_tiny_8xb8-300e_coco.py'), 'own.pth')


def test_tuning_config_refuses_a_config_of_classes():
    with pytest.raises(InputError, match='names classes, as pure Python configs'):
        tuning_config(Config(dict(default_scope='mmseg', model=dict(type=EncoderDecoder))), 'own.pth')
