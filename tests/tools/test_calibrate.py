"""Calibrating by the command line: what is written, what it is worth, and that it goes wherever an adapter goes."""
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from webdataset import TarWriter

from mspe_mm.data.change_resolution import imresize
from mspe_mm.data.image_folder import find_images

ROOT = Path(__file__).parents[2]
IMAGES = 'photos'
DEGRADATIONS = """
area = [dict(type='ChangeResolution', interpolation='area')]
compressed = [dict(type='CompressJPEG', quality=20), dict(type='AddNoise', sigma=3)]
cut = [dict(type='ChangeResolution', interpolation='area'), dict(type='Resize', scale=(7, 7))]
"""


def write_photos(folder, sizes):
    """Images that are smooth, as photographs are, and brighter or darker by the place."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for index, (height, width) in enumerate(sizes):
        rough = rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)
        smooth = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{index:02}.png'), smooth)


@pytest.fixture(scope='module', autouse=True)
def _photos(world):
    write_photos(world.folder / IMAGES, [(64, 64)] * 12)


@pytest.fixture
def tool(world, monkeypatch, capsys):
    """Runs a tool in this process, in the folder of the world; returns what it prints."""
    def run(name, *args):
        monkeypatch.chdir(world.folder)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        return capsys.readouterr().out

    return run


@pytest.fixture
def calibrate(world, tool):
    """Calibrates for 16 and 32 px, of a base of 64, unless told otherwise; returns the tensors and what was printed."""
    (world.folder / 'degraded.py').write_text((world.folder / 'mspe.py').read_text() + DEGRADATIONS)

    def run(*args, config='mspe.py', images=IMAGES, resolutions=(16, 32), out='calibrated.safetensors'):
        printed = tool('calibrate.py', config, 'base.pth', '--images', images, '--resolutions', *resolutions, '--out', out,
                       *args)
        return load_file(world.folder / out), printed

    return run


def errors(printed):
    """Token errors before and after by patch size."""
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines() if line.startswith('|')][1:]
    return {int(row[1]): (float(row[3][:-1]), float(row[4][:-1])) for row in rows}


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def sizes_of(path):
    with safe_open(path, 'pt') as file:
        return json.loads(file.metadata()['kernel_sizes'])


# -- What it writes ----------------------------------------------------------------------------------------------------


def test_the_kernels_asked_for_are_calibrated_and_the_errors_printed(world):
    out = world.run('calibrate.py', 'mspe.py', 'base.pth', '--images', IMAGES, '--resolutions', 16, '32x32', '--out',
                    'new/calibrated.safetensors')
    found = errors(out.stdout)
    assert set(found) == {4, 8}
    assert all(after < before for before, after in found.values())
    assert 'on the 2 of 12 images that were held out' in out.stdout
    assert 'written to new/calibrated.safetensors' in out.stdout
    kernels = load_file(world.folder / 'new/calibrated.safetensors')
    assert {name for name, value in kernels.items() if value.any()} == {'4.weight', '4.bias', '8.weight', '8.bias'}
    assert sizes_of(world.folder / 'new/calibrated.safetensors') == [4, 8, 12, 16]


def test_all_kernels_of_the_config_are_calibrated_unless_some_are_named(world, tool):
    printed = tool('calibrate.py', 'mspe.py', 'base.pth', '--images', IMAGES, '--out', 'all.safetensors')
    assert set(errors(printed)) == {4, 8, 12}
    assert all(value.any() for value in load_file(world.folder / 'all.safetensors').values())
    assert '48 x 48' in printed


def test_the_same_images_give_the_same_kernels_and_other_images_others(calibrate):
    first, _ = calibrate()
    assert equal(first, calibrate()[0])
    fewer, printed = calibrate('--num-images', 5)
    assert '1 of 5 images' in printed
    assert not equal(first, fewer)


def test_a_layer_for_correlated_pixels_starts_nearer_and_ends_alike(world, calibrate):
    white, correlated = (errors(calibrate('--ridge', '1e-6', '--cfg-options',
                                          f'model.backbone.downsampling.correlation={rho}')[1]) for rho in (0, 0.99))
    for k in (4, 8):
        assert correlated[k][0] < 0.5 * white[k][0]
        assert correlated[k][1] == pytest.approx(white[k][1], abs=0.05)
    refused = world.fails('test.py', 'mspe.py', 'base.pth', '--cfg-options', 'model.backbone.downsampling.correlation=1')
    assert 'correlation must be from 0 to less than 1' in refused


def test_a_resolution_without_a_kernel_gets_one(world, tool, calibrate):
    kernels, printed = calibrate(resolutions=(24, ), out='six.safetensors')
    assert set(kernels) == {'6.weight', '6.bias'}
    option = 'model.backbone.kernel_sizes="[6, 16]"'
    assert f'use it with --cfg-options {option}' in printed
    test = ['mspe.py', 'base.pth', '--adapter', 'six.safetensors', '--work-dir', 'six']
    assert f'add --cfg-options {option}' in world.fails('test.py', *test)
    world.run('test.py', *test, '--cfg-options', option.replace('"', ''))
    again, printed = calibrate('--cfg-options', option.replace('"', ''), resolutions=(24, ), out='again.safetensors')
    assert equal(kernels, again)
    assert 'use it with' not in printed


def test_kernels_of_an_adapter_that_are_not_asked_for_stay(world, calibrate):
    tuned = load_file(world.folder / 'adapter.safetensors')
    alone, _ = calibrate(resolutions=(16, ))
    both, _ = calibrate('--adapter', 'adapter.safetensors', resolutions=(16, ))
    for name, value in both.items():
        assert np.array_equal(value, (alone if name.startswith('4.') else tuned)[name]), name


def test_the_base_kernel_is_calibrated_only_when_it_may_change(world, calibrate):
    kernels, printed = calibrate('--degrade', 'compressed', '--cfg-options', 'model.backbone.tune_base=True',
                                 config='degraded.py', resolutions=(64, ), out='base_too.safetensors')
    assert kernels['16.weight'].any()
    (before, after) = errors(printed)[16]
    assert after < before
    refused = world.fails('calibrate.py', 'mspe.py', 'base.pth', '--images', IMAGES, '--resolutions', 64, '--out', 'x')
    assert '64 x 64 px have patches of 16 px' in refused
    assert 'model.backbone.tune_base=True' in refused


# -- Where the pairs come from -----------------------------------------------------------------------------------------


def test_folders_of_small_images_are_the_same_as_shrinking_them_alike(world, calibrate):
    for name in find_images(world.folder / IMAGES):
        image = mmcv.imread(str(world.folder / IMAGES / name))
        for size in (16, 32):
            mmcv.imwrite(imresize(image, (size, size), 'area'), str(world.folder / f'small{size}' / name))
    low, printed = calibrate('--low-images', 'small16', 'small32')
    shrunk, same = calibrate('--degrade', 'area', config='degraded.py')
    assert equal(low, shrunk)
    assert printed == same
    assert not equal(low, calibrate()[0])


def test_a_degradation_is_learnt(calibrate):
    """What was calibrated for compressed images is better on them than what was calibrated for others."""
    compressed, printed = calibrate('--degrade', 'compressed', config='degraded.py')
    assert equal(compressed, calibrate('--degrade', 'compressed', config='degraded.py')[0])    # noise is drawn from a seed
    assert errors(printed)[4][0] > errors(calibrate()[1])[4][0]
    assert errors(printed)[4][1] < errors(printed)[4][0]


def test_any_size_of_image_is_taken_and_read_in_subfolders(world, calibrate):
    write_photos(world.folder / 'odd', [(64, 64), (150, 100), (70, 64), (100, 65)])
    write_photos(world.folder / 'odd/deeper', [(50, 150), (90, 91), (64, 80), (30, 31)])
    kernels, printed = calibrate('--ridge', '1e-3', '--holdout', 0.5, images='odd')
    assert 'on the 4 of 8 images' in printed
    assert re.search(r'\| +4 +\| +0.001 \|', printed)
    assert all(kernels[name].any() and kernels[name].isfinite().all() for name in ('4.weight', '4.bias', '8.weight'))


def test_two_images_of_few_patches_are_enough_for_the_ridge(world, calibrate):
    names = find_images(world.folder / IMAGES)[:2]
    (world.folder / 'two').mkdir()
    for name in names:
        shutil.copy(world.folder / IMAGES / name, world.folder / 'two')
    _, printed = calibrate(images='two')    # 16 patches for the 48 and 192 values of each
    assert all(after <= before for before, after in errors(printed).values())


# -- Where it goes -----------------------------------------------------------------------------------------------------


def test_it_goes_wherever_an_adapter_goes(world, tool, calibrate):
    calibrate()
    world.run('merge_adapter.py', 'mspe.py', 'base.pth', '--adapter', 'calibrated.safetensors', '--out', 'calibrated.pth')
    sweep = ['--resolutions', 16, 64, '--out-dir']
    world.run('eval_multiscale.py', 'mspe.py', 'base.pth', '--calibrated', 'calibrated.safetensors', *sweep, 'by_method')
    world.run('eval_multiscale.py', 'mspe.py', 'calibrated.pth', '--methods', 'mspe', *sweep, 'by_merging')
    rows = {(row['method'], row['resolution'][0]): row['metrics']
            for row in json.loads((world.folder / 'by_method/results.json').read_text())['rows']}
    merged = json.loads((world.folder / 'by_merging/results.json').read_text())['rows']
    assert {method for method, _ in rows} == {'vanilla', 'img_resize', 'flexivit', 'prior', 'calibrated', 'mspe'}
    assert rows['calibrated', 16] == merged[0]['metrics'] != rows['flexivit', 16]
    assert rows['mspe', 16] == rows['prior', 16] != rows['flexivit', 16]    # the model's own layer is untrained here
    assert rows['calibrated', 64] == rows['vanilla', 64] == merged[1]['metrics']


def test_a_sweep_compares_it_with_a_tuned_layer_of_other_kernels_on_degraded_images(world, calibrate):
    calibrate(resolutions=(24, ), out='six.safetensors')
    for extra in ([], ['--degrade', 'compressed']):
        world.run('eval_multiscale.py', 'degraded.py', 'base.pth', '--adapter', 'adapter.safetensors', '--calibrated',
                  'six.safetensors', '--methods', 'calibrated', 'img_resize', '--resolutions', 24, '--out-dir',
                  f'sweep{len(extra)}', *extra)
    clean, degraded = (json.loads((world.folder / f'sweep{n}/results.json').read_text()) for n in (0, 2))
    assert clean['degrade'] is None
    assert [step['type'] for step in degraded['degrade']] == ['CompressJPEG', 'AddNoise']
    assert clean['calibrated'] == 'six.safetensors'
    for one, other in zip(clean['rows'], degraded['rows']):
        assert one['metrics'] != other['metrics']


def test_tuning_starts_from_it(world, calibrate):
    start, _ = calibrate()
    world.run('train.py', 'mspe.py', '--adapter', 'calibrated.safetensors', '--work-dir', 'from_calibrated', '--cfg-options',
              'optim_wrapper.optimizer.lr=0', 'train_cfg.max_epochs=1')
    assert equal(start, load_file(world.folder / 'from_calibrated/adapter.safetensors'))
    world.run('train.py', 'mspe.py', '--adapter', 'calibrated.safetensors', '--work-dir', 'from_calibrated', '--cfg-options',
              'train_cfg.max_epochs=1')
    assert not equal(start, load_file(world.folder / 'from_calibrated/adapter.safetensors'))


# -- Bad input ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(world):
    """Folders of images that cannot be used."""
    root, names = world.folder / 'bad', find_images(world.folder / IMAGES)
    if not root.exists():
        for name in ('empty', 'one', 'text', 'flat', 'thin', 'renamed', 'large'):
            (root / name).mkdir(parents=True)
        shutil.copy(world.folder / IMAGES / names[0], root / 'one')
        shutil.copytree(world.folder / IMAGES, root / 'broken')
        (root / 'broken' / names[3]).write_bytes(b'no picture')
        (root / 'text/readme.txt').write_text('no picture')
        for name in names:
            image = mmcv.imread(str(world.folder / IMAGES / name))
            cv2.imwrite(str(root / 'flat' / name), np.full_like(image, 90))
            cv2.imwrite(str(root / 'thin' / name), image[:3])
            cv2.imwrite(str(root / 'large' / name), cv2.resize(image, (20, 20)))
            cv2.imwrite(str(root / 'renamed' / f'low_{name}'), cv2.resize(image, (16, 16)))
    return root


@pytest.mark.parametrize(('args', 'sentence'), [
    (['--images', 'nowhere'], 'folder nowhere does not exist'),
    (['--images', 'bad/empty'], 'there are no images in bad/empty'),
    (['--images', 'bad/text'], 'there are no images in bad/text'),
    (['--images', 'bad/one'], 'bad/one: calibrating takes two images at least'),
    (['--num-images', '1'], 'photos: calibrating takes two images at least'),
    (['--images', 'bad/broken'], 'bad/broken/03.png cannot be decoded'),
    (['--images', 'bad/flat'], 'bad/flat: 32 pairs of patches, and their tokens do not vary'),
    (['--images', 'bad/thin'], 'error: bad/thin/00.png is 3 x 64 px at the base resolution, smaller than a patch of 16 px'),
    (['--low-images', 'bad/renamed'], 'bad/renamed/00.png does not exist: the folders of images must have the same file'),
    (['--low-images', 'bad/large'], 'bad/large/00.png is 20 x 20 px, and for patches of 4 px it must be 16 x 16'),
    (['--low-images', 'bad/large', 'bad/renamed'], '2 folders of --low-images for 1 resolutions'),
    (['--degrade', 'nothing'], 'has no pipeline nothing'),
    (['--degrade', 'model'], 'has no pipeline model'),
    (['--degrade', 'cut'], 'makes images of 7 x 7 px where 16 x 16 px are asked for'),
    (['--resolutions', '16x32'], '16 x 32 px are patches of 4 x 8 px, and kernels are kept square'),
    (['--resolutions', '16', '15'], '15 x 15 px have patches of 4 px, as another of the resolutions'),
    (['--resolutions', '256'], 'patches of 64 px have 12288 values, and at most 4096'),
    (['--resolutions', '24', '--adapter', 'adapter.safetensors'], 'no kernel of 6 px to calibrate, its own are of 4, 8, 12'),
])
def test_bad_input_is_one_sentence(world, calibrate, folders, args, sentence):
    given = {'--images': [IMAGES], '--resolutions': ['16'], '--out': ['bad.safetensors']}
    options = [option for name, values in given.items() if name not in args for option in (name, *values)]
    assert sentence in world.fails('calibrate.py', 'degraded.py', 'base.pth', *options, *args)
    assert not (world.folder / 'bad.safetensors').exists()


def test_files_that_are_not_there_are_named(world):
    rest = ('--images', IMAGES, '--resolutions', 16, '--out', 'x')
    assert 'nowhere.pth does not exist' in world.fails('calibrate.py', 'mspe.py', 'nowhere.pth', *rest)
    assert 'config base.py has no MSPE' in world.fails('calibrate.py', 'base.py', 'base.pth', *rest)
    options = ('--images', IMAGES, '--out', 'x', '--cfg-options', 'model.backbone.kernel_sizes=[16]', 'model.tuning=None')
    assert 'give --resolutions' in world.fails('calibrate.py', 'mspe.py', 'base.pth', *options)
    assert '--calibrated FILE' in world.fails('eval_multiscale.py', 'mspe.py', 'base.pth', '--methods', 'calibrated',
                                              '--resolutions', 16, '--out-dir', 'x')


@pytest.mark.parametrize('args', [['--holdout', '0'], ['--holdout', '1.5'], ['--ridge', '-1'], ['--ridge', 'much'],
                                  ['--ridge', 'nan'], ['--num-images', 'all'], ['--num-images', '-3'],
                                  ['--degrade', 'x', '--low-images', 'y']])
def test_arguments_out_of_range_are_refused(world, args, capsys):
    with pytest.raises(AssertionError, match='2'):    # argparse exits with code 2, and a sentence on stderr
        world.fails('calibrate.py', 'mspe.py', 'base.pth', '--images', IMAGES, '--resolutions', 16, '--out', 'x', *args)
    assert args[0] in capsys.readouterr().err.splitlines()[-1]


# -- In several processes ----------------------------------------------------------------------------------------------


def launched(world, *args, check=True):
    return world.command(sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
                         ROOT / 'tools/calibrate.py', 'degraded.py', 'base.pth', '--launcher', 'pytorch', '--resolutions',
                         16, 32, '--degrade', 'compressed', *args, check=check)


def test_two_processes_write_the_adapter_of_one(world, calibrate):
    alone, _ = calibrate('--degrade', 'compressed', config='degraded.py')
    printed = launched(world, '--images', IMAGES, '--out', 'both.safetensors').stdout
    both = load_file(world.folder / 'both.safetensors')
    assert alone.keys() == both.keys()
    assert all(np.allclose(alone[name], both[name], rtol=1e-5, atol=1e-6) for name in alone)
    assert set(errors(printed)) == {4, 8}    # printed once


def test_an_image_that_one_process_cannot_read_ends_both_with_its_name(world, calibrate):
    write_photos(world.folder / 'broken', [(64, 64)] * 4)
    (world.folder / 'broken/01.png').write_bytes(b'no image')    # of the second process
    done = launched(world, '--images', 'broken', '--out', 'none.safetensors', check=False)
    assert done.returncode != 0
    # Of both processes, whose lines may be written at the same moment, and then into each other.
    assert done.stderr.count('error: broken/01.png cannot be decoded') == 2
    assert not (world.folder / 'none.safetensors').exists()


def test_two_nodes_calibrate_from_tars_what_one_process_does_from_the_folder(world, calibrate):
    alone, _ = calibrate()
    images = sorted((world.folder / IMAGES).iterdir())
    for shard in range(3):
        with TarWriter(str(world.folder / f'{shard}.tar')) as writer:
            for image in images[4 * shard:4 * shard + 4]:
                writer.write(dict(__key__=image.stem, png=image.read_bytes()))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    bin_ = Path(sys.executable).parent
    nodes = [subprocess.Popen(
        ['bash', str(ROOT / 'tools/dist_test.sh'), 'mspe.py', 'base.pth', '1', '--images', '{0..2}.tar', '--resolutions',
         '16', '32', '--out', 'nodes.safetensors'], cwd=world.folder, env={
            **os.environ, 'TOOL': 'calibrate.py', 'NNODES': '2', 'NODE_RANK': str(rank), 'PORT': str(port),
            'MASTER_ADDR': '127.0.0.1', 'OMP_NUM_THREADS': '1', 'PATH': f'{bin_}:{os.environ["PATH"]}'})
        for rank in range(2)]
    assert [node.wait() for node in nodes] == [0, 0]
    together = load_file(world.folder / 'nodes.safetensors')
    assert alone.keys() == together.keys()
    assert all(np.allclose(alone[name], together[name], rtol=1e-5, atol=1e-6) for name in alone)
