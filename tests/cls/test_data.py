"""Folders are read and numbered as timm does, images prepared by timm's transforms."""
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from PIL import Image
from timm.data import ImageDataset, create_transform

import mspe_mm.cls  # noqa: F401
from mspe_mm.cls import LoadRGBImage, PackImage, TimmTransform, TorchvisionTransform
from mspe_mm.data.change_resolution import ChangeResolution
from mspe_mm.errors import InputError

PIPELINE = [dict(type='LoadRGBImage'), dict(type='TimmTransform', img_size=32, crop_pct=1.0), dict(type='PackImage')]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (('class10', 2), ('class2', 3), ('Ant', 1)):
        (tmp_path / 'val' / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f'val/{name}/{i}.png')
    return tmp_path


def build(folder, **changes):
    return DATASETS.build(dict(type='TimmImageFolder', data_root=str(folder), data_prefix=dict(img_path='val'),
                               pipeline=PIPELINE, **changes))


def test_images_and_labels_are_timms(folder):
    ours, timms = build(folder), ImageDataset(str(folder / 'val'))
    assert [(ours.get_data_info(i)['img_path'], ours.get_data_info(i)['gt_label']) for i in range(len(ours))] == (
        timms.reader.samples)
    assert ours.metainfo['classes'] == tuple(timms.reader.class_to_idx)
    assert ours.metainfo['classes'].index('class2') < ours.metainfo['classes'].index('class10')    # natural order


def test_classes_of_the_config_number_the_folders(folder):
    data = build(folder, metainfo=dict(classes=('class10', 'none', 'Ant')))
    assert data.metainfo['classes'] == ('class10', 'none', 'Ant')
    assert [data.get_data_info(i)['gt_label'] for i in range(len(data))] == [2, 0, 0]


def test_a_sample_is_timms_evaluation_image(folder):
    sample = build(folder)[0]
    path = sample['data_samples'].img_path
    expected = create_transform((3, 32, 32), crop_pct=1.0, interpolation='bicubic', normalize=False)(
        Image.open(path).convert('RGB'))
    assert torch.equal(sample['inputs'], expected)
    assert sample['inputs'].dtype == torch.uint8
    assert sample['data_samples'].gt_label == 0


@pytest.mark.parametrize('crop_mode', ['center', 'squash', 'border'])
def test_timm_transform_leaves_an_image_at_its_size_where_timm_would_enlarge_it(crop_mode):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
    settings = dict(img_size=72, crop_pct=0.9, interpolation='bilinear', crop_mode=crop_mode)
    found = TimmTransform(keep_small=True, **settings)(dict(img=small))['img']
    height, width = {'center': (36, 36), 'squash': (36, 45), 'border': (45, 45)}[crop_mode]    # of 80 px, 72 are cropped
    assert found.shape == (height, width, 3)
    top, left = max(0, (40 - height) // 2), max(0, (50 - width) // 2)
    inside = np.asarray(small)[top:top + height, left:left + width]
    offset = max(0, (height - 40) // 2)
    assert np.array_equal(found[offset:offset + inside.shape[0], :inside.shape[1]], inside)    # pixel by pixel


@pytest.mark.parametrize('size', [(90, 100), (80, 80)])
def test_timm_transform_is_timms_for_an_image_that_is_large_enough(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    settings = dict(img_size=72, crop_pct=0.9, interpolation='bilinear')
    keeping, timms = (TimmTransform(keep_small=keep, **settings)(dict(img=image))['img'] for keep in (True, False))
    assert np.array_equal(keeping, timms)


def test_timm_transform_refuses_to_keep_small_images_in_training():
    with pytest.raises(InputError, match='keep_small is for testing'):
        TimmTransform(img_size=32, is_training=True, keep_small=True)


def test_jpeg_of_the_pipeline_is_that_of_its_colours(folder):
    """Luma and chroma are of red, green and blue, whatever order the array has."""
    path = str(folder / 'val/Ant/0.png')
    steps = [LoadRGBImage(), TimmTransform(img_size=32, crop_pct=1.0, interpolation='bilinear')]
    image = Compose(steps)(dict(img_path=path))['img']
    degraded = Compose([*steps, ChangeResolution((1., 1.), degrade=[dict(type='CompressJPEG', quality=30)])])(
        dict(img_path=path))['img']
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'jpeg', quality=30)
    assert np.abs(degraded.astype(float) - np.asarray(Image.open(buffer))).mean() < 1    # the decoders round differently
    assert np.abs(degraded.astype(float) - image).mean() > 5


def test_size_interpolation_and_crop_are_the_models():
    transform = TimmTransform('vit_base_patch16_224.augreg_in21k_ft_in1k').transform
    expected = create_transform((3, 224, 224), crop_pct=0.9, interpolation='bicubic', normalize=False)
    assert str(transform) == str(expected)


def test_training_images_are_cropped_flipped_and_jittered():
    text = str(TimmTransform('vit_base_patch16_224', is_training=True, color_jitter=0.4).transform)
    assert all(step in text for step in ('RandomResizedCrop', 'size=(224, 224)', 'RandomHorizontalFlip', 'ColorJitter'))
    assert 'Normalize' not in text    # the model does so


def test_a_torchvision_transform_sees_the_pil_image():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    results = TorchvisionTransform('RandomVerticalFlip', p=1.0)(dict(img=image))
    assert np.array_equal(np.asarray(results['img']), np.asarray(image)[::-1])


def test_packing_keeps_the_pixels():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    packed = PackImage()(dict(img=image, img_path='a.png', gt_label=3))
    assert np.array_equal(packed['inputs'].numpy(), image.transpose(2, 0, 1))
    assert (packed['data_samples'].gt_label, packed['data_samples'].img_path) == (3, 'a.png')


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'CMYK'])
def test_images_of_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ('image.jpg' if mode == 'CMYK' else 'image.png')
    Image.new(mode, (4, 4)).save(path)
    assert LoadRGBImage()(dict(img_path=str(path)))['img'].mode == 'RGB'


@pytest.mark.parametrize('content', [b'', b'no picture', b'\x89PNG\r\n\x1a\n truncated'])
def test_a_file_that_cannot_be_decoded_is_named(tmp_path, content):
    path = tmp_path / 'image.png'
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf'{path} cannot be decoded'):
        LoadRGBImage()(dict(img_path=str(path)))


def test_a_truncated_file_and_a_missing_one_are_named(tmp_path):
    path = tmp_path / 'image.jpg'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match=rf'{path} cannot be decoded'):
        LoadRGBImage()(dict(img_path=str(path)))
    with pytest.raises(InputError, match=r'nowhere\.jpg does not exist'):
        LoadRGBImage()(dict(img_path='nowhere.jpg'))


def test_bad_folders_are_named(folder):
    with pytest.raises(InputError, match=r'val does not exist: check data_root'):
        build(folder / 'missing')
    with pytest.raises(InputError, match=r'no images in class folders of .*val: check'):
        build(folder, metainfo=dict(classes=('cat', 'dog')))
    Image.new('RGB', (4, 4)).save(folder / 'val/stray.png')
    with pytest.raises(InputError, match='val has images that are in no class folder'):
        build(folder)


def test_timm_transform_takes_what_it_was_not_given_from_the_model():
    model = SimpleNamespace(timm_name='vit_base_patch16_224.augreg_in21k_ft_in1k', img_size=32)
    for given, size in ((dict(), 32), (dict(img_size=64), 64)):
        transform = TimmTransform(**given)
        transform.match_model(model)
        expected = create_transform((3, size, size), crop_pct=0.9, interpolation='bicubic', normalize=False)
        assert str(transform.transform) == str(expected)
