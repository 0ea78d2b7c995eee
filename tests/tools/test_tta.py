"""Test-time augmentation takes checkpoints and adapters as the plain test does."""
import json

import pytest

TTA = '''
load_from = 'base.pth'
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(64, 64), keep_ratio=True)],
        [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob={flip})],
        [dict(type='LoadAnnotations')],
        [dict(type='PackSegInputs')]])]
'''


def figures(world, *args):
    world.call('test.py', *args, '--work-dir', f'tta{len(list(world.folder.glob("tta*")))}')
    (log, ) = max(world.folder.glob('tta*'), key=lambda path: path.stat().st_mtime).glob('*/*.json')
    return {key: value for key, value in json.loads(log.read_text()).items() if 'time' not in key}


@pytest.mark.parametrize('args', [['base.pth'], ['base.pth', '--adapter', 'adapter.safetensors'],
                                  ['work_dirs/mspe/epoch_2.pth']])
def test_tta_of_two_equal_views_has_the_figures_of_the_plain_test(world, args):
    world.write_config('setr_mspe_5e_synthetic', 'same_views.py', TTA.format(flip='0.'))
    assert figures(world, 'same_views.py', *args, '--tta') == figures(world, 'same_views.py', *args)


def test_tta_flips(world):
    world.write_config('setr_mspe_5e_synthetic', 'flipped.py', TTA.format(flip='1.'))
    assert figures(world, 'flipped.py', 'base.pth', '--tta') != figures(world, 'flipped.py', 'base.pth')


def test_tta_refuses_a_checkpoint_of_another_model(world):
    world.write_config('setr_mspe_5e_synthetic', 'flipped.py', TTA.format(flip='1.'))
    deeper = ['--cfg-options', 'model.backbone.num_layers=3', 'model.backbone.out_indices=[2]']
    assert 'base.pth is not of this model' in world.fails('test.py', 'flipped.py', 'base.pth', '--tta', *deeper)
