"""Plans of ablations, and their tables against NumPy's mean and standard deviation."""
import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from mspe_mm.errors import InputError
from mspe_mm.evaluation.ablation import Variant, ablation_table, mean_and_spread, read_plan, summary, write_ablation
from mspe_mm.layers.resolution import SAMPLINGS

CONFIGS = Path(__file__).parents[2] / 'configs'
PLANS = sorted((CONFIGS / 'ablations').glob('*.py'))
SIZES = [(32, 48), (16, 24)]
VALUES = st.floats(0, 100)


def rows_of(values):
    """Rows of ``{variant: [[value by resolution] by seed]}``."""
    return [dict(variant=name, seed=seed, resolution=list(size), metrics=dict(mIoU=value))
            for name, seeds in values.items() for seed, by_size in enumerate(seeds)
            for size, value in zip(SIZES, by_size)]


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_mean_and_spread_are_numpys(values):
    average, spread = mean_and_spread(values)
    assert average == pytest.approx(np.mean(values), rel=1e-9, abs=1e-12)
    assert spread == (pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-9) if len(values) > 1 else None)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=5))
def test_the_spread_is_over_seeds_and_the_mean_over_resolutions_is_taken_by_seed(seeds):
    found = summary(rows_of(dict(a=seeds)), 'mIoU')['a']
    array = np.array(seeds)
    for column, size in enumerate(SIZES):
        expected = array[:, column].mean(), array[:, column].std(ddof=1)
        np.testing.assert_allclose(found[size], expected, rtol=1e-9, atol=1e-9)
    averages = array.mean(axis=1)
    np.testing.assert_allclose(found['mean'], (averages.mean(), averages.std(ddof=1)), rtol=1e-9, atol=1e-9)


def test_a_table_has_a_row_a_variant_and_no_spread_of_one_seed():
    table = ablation_table(rows_of(dict(flexivit=[(30., 10.)], tuned=[(40., 20.), (42., 24.)])), 'mIoU')
    assert table.field_names == ['mIoU', 'seeds', '16 x 24', '32 x 48', 'mean']
    assert table.rows == [['flexivit', 1, '10.00', '30.00', '20.00'],
                          ['tuned', 2, '22.00 ± 2.83', '41.00 ± 1.41', '31.50 ± 2.12']]


def test_a_run_that_lacks_a_resolution_leaves_its_cell_out_of_the_mean():
    rows = rows_of(dict(a=[(40., 20.), (42., 24.)], b=[(1., 2.)]))[:-1]
    del rows[3]    # seed 1 of a at 16 x 24
    found = summary(rows, 'mIoU')
    assert found['a']['mean'] == (30., None)
    assert found['a'][16, 24] == (20., None)
    assert ablation_table(rows, 'mIoU').rows[1] == ['b', 1, '', '1.00', '1.00']


def test_summary_leaves_rows_out_that_cannot_run_or_have_no_value():
    rows = rows_of(dict(a=[(40., 20.), (42., 24.)], b=[(1., 2.), (3., 4.)]))
    rows[1].update(metrics={}, failure='too few tokens')    # seed 0 of a at 16 x 24
    for row in rows[5::2]:    # b at 16 x 24
        row['metrics']['mIoU'] = None
    found = summary(rows, 'mIoU')
    assert found['a'] == {(16, 24): (24., None), (32, 48): (41., pytest.approx(2**0.5)), 'mean': (33., None)}
    assert set(found['b']) == {(32, 48)}
    assert ablation_table(rows, 'mIoU').rows[1] == ['b', 2, '-', '2.00 ± 1.41', '-']


def test_write_ablation_draws_variants_that_run_nowhere(tmp_path):
    rows = [dict(row, metrics={}, failure='too few tokens') for row in rows_of(dict(a=[(40., 20.)]))]
    assert '-' in write_ablation(rows, tmp_path, {}, ['mIoU'])
    assert (tmp_path / 'ablation.png').is_file()


@pytest.mark.parametrize(('change', 'sentence'), [
    (dict(seeds='(1, 1)'), r'seeds of plan .*plan\.py has 1 twice'),
    (dict(resolutions="[16, '16']"), r'resolutions of plan .*plan\.py has 16 twice')])
def test_read_plan_refuses_repeated_values(tmp_path, change, sentence):
    (tmp_path / 'base.py').write_text('')
    settings = dict(dict(base="'base.py'", seeds='(0, )', resolutions='[16]', variants='dict(a={})'), **change)
    (tmp_path / 'plan.py').write_text('\n'.join(f'{key} = {value}' for key, value in settings.items()))
    with pytest.raises(InputError, match=sentence):
        read_plan(tmp_path / 'plan.py')


def test_table_json_and_figure_are_written(tmp_path):
    rows = rows_of(dict(a=[(40., 20.), (42., 24.)]))
    printed = write_ablation(rows, tmp_path, dict(plan='plan.py'), ['mIoU', 'top-1'])
    assert '22.00 ± 2.83' in printed
    assert 'top-1' not in printed
    assert json.loads((tmp_path / 'ablation.json').read_text()) == dict(plan='plan.py', rows=rows)
    assert '| a' in (tmp_path / 'table.md').read_text()
    assert (tmp_path / 'ablation.png').read_bytes().startswith(b'\x89PNG')


def test_variant_seeds_are_one_for_deterministic_variants():
    assert Variant('a').seeds((3, 4)) == (3, 4)
    assert Variant('a', tune=False).seeds((3, 4)) == (3, )
    assert Variant('a', tune=False, init='calibrated').seeds((3, 4)) == (3, )
    assert Variant('a', tune=False, init='random').seeds((3, 4)) == (3, 4)


@pytest.mark.parametrize('path', PLANS, ids=[path.stem for path in PLANS])
def test_the_variants_of_a_plan_change_what_the_config_has(path):
    plan = read_plan(path)
    base = Config.fromfile(plan.base)
    seen = []
    for variant in plan.variants:
        for key in variant.options:
            parent = base
            for name in key.split('.')[:-1]:
                parent = parent[int(name)] if isinstance(parent, list) else parent[name]
            assert isinstance(parent, dict), key
        cfg = copy.deepcopy(base)
        cfg.merge_from_dict(variant.options)
        assert cfg.model.tuning.get('sampling') in SAMPLINGS
        assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
        assert variant.degrade is None or variant.degrade in cfg
        seen.append((json.dumps(cfg.to_dict()), variant.init, variant.num_images, variant.tune, variant.degrade))
    assert len(set(seen)) == len(seen) > 3
