"""The command ``mspe``."""
import sys

import pytest
import yaml
from tools_helpers import ROOT

from mspe_mm import __main__ as command
from mspe_mm.shipped import CONFIGS


def test_commands_are_the_tools():
    assert {path.stem for path in command.commands().values()} == {path.stem for path in (ROOT / 'tools').glob('*.py')}
    assert command.commands()['sweep'].name == 'eval_multiscale.py'


def test_usage_describes_each_command_in_one_line():
    lines = [line.strip() for line in command.usage().splitlines()[3:]]
    assert len(lines) == len(command.commands())
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


@pytest.mark.parametrize('name', ['merge-adapter', 'merge_adapter'])
def test_command_runs_its_tool(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, 'argv', ['mspe', name, '--help'])
    with pytest.raises(SystemExit) as exit_:
        command.main()
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: mspe {name} ')


def test_misspelt_command_is_refused_with_the_nearest(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['mspe', 'trian'])
    with pytest.raises(SystemExit, match=r"error: there is no command 'trian': did you mean 'train'\?"):
        command.main()


def test_metafile_lists_every_recipe_that_tunes():
    models = yaml.safe_load((CONFIGS / 'metafile.yml').read_text())['Models']
    recipes = {path for path in CONFIGS.glob('*.py') if any(word in path.stem for word in ('mspe', 'distill', 'grids'))}
    assert {CONFIGS.parent / model['Config'] for model in models} == recipes
    assert all(model['Name'] == (CONFIGS.parent / model['Config']).stem for model in models)
