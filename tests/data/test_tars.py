"""Images in WebDataset tars, which the library has written, against the same images in a folder."""
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from webdataset import TarWriter

from mspe_mm.cls.transforms import LoadRGBImage
from mspe_mm.data.image_folder import ImageFolder, find_images
from mspe_mm.data.pairs import ImagePairs
from mspe_mm.errors import InputError

PER_SHARD = 3


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """A folder ``images`` of six images, and ``shards/{0..1}.tar`` of the same, with masks and labels beside."""
    folder = tmp_path_factory.mktemp('data')
    (folder / 'images').mkdir()
    (folder / 'shards').mkdir()
    rng = np.random.default_rng(0)
    for shard in range(2):
        with TarWriter(str(folder / f'shards/{shard}.tar')) as writer:
            for index in range(shard * PER_SHARD, (shard + 1) * PER_SHARD):
                image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f'images/{index}.png'), image)
                bytes_ = (folder / f'images/{index}.png').read_bytes()
                writer.write({'__key__': f'part/{index}', 'PNG' if index == 1 else 'png': bytes_, 'seg.png': b'a mask',
                              'cls': index})
    return folder


def test_the_images_of_tars_are_those_of_the_folder_in_order(data):
    found = find_images(data / 'shards/{0..1}.tar')
    assert found == [f'tar://{data}/shards/{index // PER_SHARD}.tar/part/{index}.{"PNG" if index == 1 else "png"}'
                     for index in range(6)]
    assert [fileio.get(address) for address in found] == [path.read_bytes() for path in sorted((data / 'images').iterdir())]
    assert fileio.get_text(found[0].replace('.png', '.cls')) == '0'


def test_a_data_set_of_tars_loads_what_that_of_the_folder_loads(data):
    pipeline = [dict(type='LoadImageFromFile')]
    tars, folder = (ImageFolder(data_root=str(data / root), pipeline=pipeline) for root in ('shards/{0..1}.tar', 'images'))
    assert len(tars) == len(folder) == 6
    assert all(np.array_equal(tars[index]['img'], folder[index]['img']) for index in range(6))


def test_a_classifier_loads_an_image_of_a_tar(data):
    first = find_images(data / 'shards/0.tar')[0]
    paths = (first, str(data / 'images/0.png'))
    found, expected = (np.asarray(LoadRGBImage()(dict(img_path=path))['img']) for path in paths)
    assert np.array_equal(found, expected)


def test_pairs_of_tars_are_those_of_the_folder(data):
    pairs = []
    for root in ('shards/{0..1}.tar', 'images'):
        steps = [LoadImageFromFile(), lambda results: results]
        pairs.append(ImagePairs(data / root, find_images(data / root), steps, 8, {}))
    assert all(np.array_equal(pairs[0][index][0], pairs[1][index][0]) for index in range(6))


def test_what_cannot_be_read_is_named(data, tmp_path):
    with pytest.raises(InputError, match=r'7.tar does not exist'):
        find_images(data / 'shards/{7..8}.tar')
    (tmp_path / 'text.tar').write_text('no tar')
    with pytest.raises(InputError, match=r'text.tar is not a tar, or is compressed'):
        find_images(tmp_path / 'text.tar')
    with tarfile.open(tmp_path / 'labels.tar', 'w') as tar:
        tar.add(data / 'images/0.png', '0.seg.png')
    with pytest.raises(InputError, match=r'there are no images in .*labels.tar'):
        find_images(tmp_path / 'labels.tar')
    with pytest.raises(InputError, match=r'0.tar has no part/9.png'):
        fileio.get(f'tar://{data}/shards/0.tar/part/9.png')


def test_without_the_library_a_sentence_says_what_to_install(data):
    code = ("import sys; sys.modules['webdataset.shardlists'] = sys.modules['webdataset'] = None\n"
            'from mspe_mm.data.image_folder import find_images\n'
            f"find_images('{data}/shards/0.tar')")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith('install mspe_mm[webdataset]')
