"""Ablations by the command line: two variants with two seeds, a restart, and what is refused."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from mmengine.config import Config
from mmseg.apis import init_model
from safetensors.torch import load_file
from tools_helpers import ROOT

PLAN = '''
base = 'ablated.py'
seeds = (0, 1)
resolutions = [16, '32x48']
references = ['flexivit']
images = 'data/images/train'
variants = dict(
    default=dict(),
    random={'init': 'random', 'tune': False, 'model.backbone.parameterization': 'native'},
    calibrated={'init': 'calibrated', 'num_images': 4})
'''


@pytest.fixture(scope='module')
def ablated(world):
    """The world with ``plan.py``, and the tables of its variants."""
    world.write_config('setr_mspe_5e_synthetic', 'ablated.py', "load_from = 'base.pth'\ntrain_cfg = dict(max_epochs=1)\n"
                       'param_scheduler = []')
    (world.folder / 'plan.py').write_text(PLAN)
    done = world.run('ablate.py', 'plan.py', '--out-dir', 'ablation', '--variants', 'default', 'random')
    return world, done.stdout


def test_a_table_has_all_variants_with_their_spread(ablated):
    world, printed = ablated
    found = json.loads((world.folder / 'ablation/ablation.json').read_text())
    assert {(row['variant'], row['seed'], tuple(row['resolution'])) for row in found['rows']} == {
        (variant, seed, size) for size in ((16, 16), (32, 48)) for variant, seed in (
            ('flexivit', 0), *((name, seed) for name in ('default', 'random') for seed in (0, 1)))}
    assert (found['base'], found['checkpoint']) == ('ablated.py', 'base.pth')
    table = (world.folder / 'ablation/table.md').read_text()
    lines = {line.split('|')[1].strip(): line for line in table.splitlines() if line.startswith('| ') and '---' not in line}
    assert [name for name in lines if name != 'mIoU'] == ['flexivit', 'default', 'random']
    assert '±' not in lines['flexivit']
    assert all(lines[name].count('±') == 3 for name in ('default', 'random'))
    assert 'random, seed 1: mIoU' in printed
    assert (world.folder / 'ablation/ablation.png').stat().st_size > 10_000


def commands(folder):
    """The tools that a log names, in order."""
    return [line.split('/tools/')[1].split()[0] for line in (folder / 'log.txt').read_text().splitlines()
            if line.startswith('$ ')]


def test_a_run_has_its_settings_and_seeds_differ(ablated):
    folder = ablated[0].folder / 'ablation'
    assert commands(folder / 'default/seed_1') == ['train.py', 'eval_multiscale.py']
    assert commands(folder / 'random/seed_1') == ['eval_multiscale.py']
    for name, adapter in (('default', 'adapter'), ('random', 'init')):
        results = json.loads((folder / f'{name}/seed_1/results.json').read_text())
        assert results['adapter'] == f'ablation/{name}/seed_1/{adapter}.safetensors'
        config = (folder / f'{name}/seed_1/config.py').read_text()
        assert 'randomness = dict(seed=1)' in config
        assert ("parameterization='native'" in config) == (name == 'random')
        first, second = (load_file(folder / f'{name}/seed_{seed}/{adapter}.safetensors')['4.weight'] for seed in (0, 1))
        assert not torch.equal(first, second)


def test_a_calibrated_run_starts_from_the_calibration(ablated):
    world, _ = ablated
    world.run('ablate.py', 'plan.py', '--out-dir', 'calibrated', '--variants', 'calibrated', '--seeds', '1')
    folder = world.folder / 'calibrated/calibrated'
    assert commands(folder) == ['calibrate.py']
    assert '--num-images 4' in (folder / 'log.txt').read_text()
    assert commands(folder / 'seed_1') == ['train.py', 'eval_multiscale.py']
    assert '--adapter calibrated/calibrated/init.safetensors' in (folder / 'seed_1/log.txt').read_text()
    assert 'Load adapter from calibrated/calibrated/init.safetensors' in (folder / 'seed_1/log.txt').read_text()


def test_a_restart_does_only_what_is_missing(ablated):
    world, _ = ablated
    folder = world.folder / 'ablation'
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('log.txt')}
    table = (folder / 'table.md').read_text()
    (folder / 'default/seed_1/rows.json').unlink()
    world.run('ablate.py', 'plan.py', '--out-dir', 'ablation', '--variants', 'default', 'random')
    assert (folder / 'table.md').read_text() == table
    again = {str(path.parent.relative_to(folder)) for path in before if path.stat().st_mtime_ns != before[path]}
    assert again == {'default/seed_1'}
    assert (folder / 'default/seed_1/log.txt').read_text().count('tools/train.py') == 1    # its adapter was there


def test_other_settings_under_a_name_that_is_taken(ablated):
    world, _ = ablated
    sentence = world.fails('ablate.py', 'plan.py', '--out-dir', 'ablation', '--cfg-options', 'optim_wrapper.optimizer.lr=1')
    assert 'has a run with other settings: give the variant another name' in sentence


def test_a_run_that_fails_is_named(ablated):
    world, _ = ablated
    done = world.run('ablate.py', 'plan.py', '--out-dir', 'failed', '--variants', 'default', '--cfg-options',
                     'load_from=nowhere.pth', check=False)
    assert done.returncode == 1
    assert done.stderr.startswith('error: eval_multiscale.py failed in failed/_references/flexivit: ')
    assert 'nowhere.pth does not exist' in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize(('change', 'sentence'), [
    (('base = ', 'origin = '), 'plan bad.py has no base'),
    (('ablated.py', 'gone.py'), "base='gone.py', and gone.py does not exist"),
    (("images = 'data/images/train'", ''), "init='calibrated', and no images"),
    (("'random', 'tune'", "'zero', 'tune'"), "variant random has init='zero': choose one of pi, calibrated, random"),
    (('default=dict()', "**{'a/b': {}}"), "variant 'a/b' gives a folder its name"),
    (('ablated.py', 'base.py'), 'config base.py has no load_from: add --cfg-options load_from=CHECKPOINT'),
    (('seeds = ', 'seeds = = '), 'plan bad.py cannot be read'),
])
def test_plans_that_make_no_sense(ablated, change, sentence):
    world, _ = ablated
    (world.folder / 'bad.py').write_text(PLAN.replace(*change))
    assert sentence in world.fails('ablate.py', 'bad.py', '--out-dir', 'refused')


def test_repeated_seeds_are_refused(ablated):
    world, _ = ablated
    assert '--seeds has 3 twice' in world.fails('ablate.py', 'plan.py', '--out-dir', 'refused', '--seeds', 3, 3)


def test_an_out_dir_that_is_a_file_is_refused(ablated):
    world, _ = ablated
    assert '--out-dir plan.py is a file' in world.fails('ablate.py', 'plan.py', '--out-dir', 'plan.py')


def test_the_config_of_a_run_builds_with_the_stock_host(ablated):
    path = ablated[0].folder / 'ablation/default/seed_1/config.py'
    assert Config.fromfile(path).default_hooks.checkpoint.max_keep_ckpts == 1
    assert init_model(str(path), device='cpu').backbone.patch_embed.kernels


def test_a_finished_run_keeps_its_adapter_and_no_checkpoint(ablated):
    folder = ablated[0].folder / 'ablation/default/seed_1'
    assert (folder / 'adapter.safetensors').is_file()
    assert not list(folder.rglob('*.pth'))
    assert not (folder / 'train/last_checkpoint').exists()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_ablation_leaves_no_process_and_continues_from_the_last_checkpoint(ablated, number):
    world, _ = ablated
    out = f'stopped_{number.name}'
    folder = world.folder / out / 'default/seed_0'
    (world.folder / 'no_references.py').write_text(PLAN.replace("references = ['flexivit']", ''))
    command = ['ablate.py', 'no_references.py', '--out-dir', out, '--variants', 'default', '--seeds', '0', '--cfg-options',
               'train_cfg.max_epochs=60', 'train_dataloader.batch_size=12', 'model.tuning.objective=task']
    tool = [sys.executable, str(ROOT / 'tools' / command[0]), *command[1:]]
    process = subprocess.Popen(tool, cwd=world.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(folder.glob('train/epoch_*.pth')) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(60) != 0
    end = time.monotonic() + 30
    while using(out) and time.monotonic() < end:
        time.sleep(0.1)
    assert not using(out)
    assert not (folder / 'adapter.safetensors').exists()
    world.run(*command)
    log = (folder / 'log.txt').read_text()
    assert log.count('tools/train.py') == 2
    assert 'resumed epoch: ' in log
    assert (folder / 'adapter.safetensors').is_file()


def using(folder):
    """Processes with a path below ``folder`` on their command line."""
    found = []
    for path in os.listdir('/proc'):
        if path.isdigit():
            try:
                with open(f'/proc/{path}/cmdline', 'rb') as file:
                    found += [path] if f'{folder}/'.encode() in file.read() else []
            except OSError:    # it has just ended
                pass
    return found


def test_a_plan_with_more_resolutions_measures_and_reports_its_own(ablated):
    world, _ = ablated
    (world.folder / 'other_plan.py').write_text(PLAN.replace("[16, '32x48']", "[64, 16]"))
    world.run('ablate.py', 'other_plan.py', '--out-dir', 'ablation', '--variants', 'default', '--seeds', '1')
    rows = json.loads((world.folder / 'ablation/ablation.json').read_text())['rows']
    assert {tuple(row['resolution']) for row in rows} == {(16, 16), (64, 64)}
    file = json.loads((world.folder / 'ablation/default/seed_1/results.json').read_text())
    assert [row['resolution'] for row in file['rows']] == [[16, 16], [32, 48], [64, 64]]    # nothing is lost


def test_an_unknown_variant(ablated):
    world, _ = ablated
    assert 'plan plan.py has no variant typo: it has default, random, calibrated' in world.fails(
        'ablate.py', 'plan.py', '--out-dir', 'ablation', '--variants', 'typo')
