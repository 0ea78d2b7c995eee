"""Sizes as arguments of the tools: their bounds, and warnings off the grid."""
import pytest
import torch
from helpers import layer_of

from mspe_mm.errors import InputError
from mspe_mm.runtime.sizes import full_grids, full_sizes, warn_off_grid, warning_off_grid


def test_full_sizes_takes_up_to_eight_times_the_base():
    assert full_sizes([[1], [256], [256, 512]], (32, 64)) == [(1, 2), (256, 512), (256, 512)]
    with pytest.raises(InputError, match='257 x 514 px is more than 8 times the base resolution of 32 x 64 px'):
        full_sizes([[257]], (32, 64))


def test_full_grids_takes_up_to_sixteen_times_the_tokens():
    assert full_grids([[16], [8, 32]], (4, 4)) == [(16, 16), (8, 32)]
    with pytest.raises(InputError, match=r'the token grid 17 x 17 has 289 tokens, more than 16 times .*: give at most 256'):
        full_grids([[17]], (4, 4))


def test_warn_off_grid_names_resolution_grid_and_nearest_multiples(capsys):
    layer = layer_of(embed_dims=8, grid_size=(14, 14))
    warn_off_grid(layer, [(112, 112), (40, 40)])
    assert capsys.readouterr().err == ('warning: 40 x 40 px give 20 x 20 tokens instead of 14 x 14: the nearest multiples '
                                       'of the base grid are 42 x 42 px\n')


@pytest.mark.parametrize(('policy', 'lines'), [('isotropic', 4), ('constant', 0)])
def test_warning_off_grid_names_three_sizes_that_a_model_has_seen(capsys, policy, lines):
    layer = layer_of(embed_dims=8, grid_size=(4, 4), kernel_policy=policy)
    with warning_off_grid(torch.nn.Sequential(layer)):
        for size in ((64, 64), (64, 16), (64, 32), (32, 64), (64, 32), (16, 64)):    # square patches: a grid of their ratio
            layer(torch.zeros(1, 3, *size))
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == lines
    layer(torch.zeros(1, 3, 64, 8))    # not noted any more
    if warnings:
        assert [warning.split(' px')[0] for warning in warnings[:3]] == [
            'warning: 16 x 64', 'warning: 32 x 64', 'warning: 64 x 16']
        assert warnings[3] == 'warning: 1 more sizes of images leave the base grid'


def test_warning_off_grid_leaves_a_model_without_the_layer_alone(capsys):
    with warning_off_grid(torch.nn.Conv2d(3, 4, 2)):
        pass
    assert capsys.readouterr().err == ''
