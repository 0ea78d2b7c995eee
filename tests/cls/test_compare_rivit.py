"""The report's comparison, by one command."""
import json

import pytest
from tools_helpers import ROOT, World

from mspe_mm.data.synthetic import write_synthetic_folders

CONFIG = f'''
_base_ = '{ROOT}/configs/rivit_imagenette.py'
model = dict(
    resolutions=[16, 32],
    model_kwargs=dict(img_size=32, num_classes=8, embed_dim=16, depth=1, num_heads=2, stem_channels=4, map_size=16))
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = []
default_hooks = dict(checkpoint=dict(interval=1))
'''


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp('rivit'))
    write_synthetic_folders(world.folder / 'data', num_train=16, num_val=8, size=(32, 32), seed=0)
    (world.folder / 'rivit.py').write_text(CONFIG)
    return world


def test_six_models_are_trained_and_both_tables_printed(world, capsys):
    command = ['compare_rivit.py', 'rivit.py', '--out-dir', 'out', '--resolutions', '32', '48']
    world.call(*command)
    rows = json.loads((world.folder / 'out/results.json').read_text())['rows']
    assert len({(row['position'], row['embedding'], row['resolution']) for row in rows}) == len(rows) == 12
    assert all(0 <= row['top1'] <= 100 and row['images_per_second'] > 0 for row in rows)
    out = capsys.readouterr().out
    assert 'Convolutional patch embedding' in out
    assert 'RIViT, relative' in out
    assert (world.folder / 'out/table.md').read_text().count('relative') == 3
    # A second call evaluates what is trained.
    written = {path: path.stat().st_mtime_ns for path in (world.folder / 'out').glob('*/*.pth')}
    assert len(written) == 6
    world.call(*command)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    again = json.loads((world.folder / 'out/results.json').read_text())['rows']
    assert [row['top1'] for row in again] == [row['top1'] for row in rows]


def test_a_config_of_another_model_is_refused(world):
    (world.folder / 'other.py').write_text(f"_base_ = '{ROOT}/configs/vit_synthetic_cls.py'")
    assert 'config other.py has no RIViT' in world.fails('compare_rivit.py', 'other.py', '--out-dir', 'x')
