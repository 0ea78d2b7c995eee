"""What rows are made of, on candidates whose work is known."""
import pytest
import torch
from benchmark_helpers import build_modes

from mspe_mm import InputError
from mspe_mm.benchmark.cases import backbone, end_to_end, inference, train_step
from mspe_mm.benchmark.memory import OutOfMemory
from mspe_mm.benchmark.ratios import Candidate, Comparison, Settings, difference, measure
from mspe_mm.runtime import fast_products

SETTINGS = Settings(repeats=3, memory=False)


@pytest.fixture
def fast(monkeypatch):
    """A processor whose fast products are oneDNN's."""
    monkeypatch.setattr(fast_products, 'onednn_is_faster', lambda: True)


def product(size, offset=0.):
    """A step of one (size x size) product."""
    return lambda: lambda _: torch.ones(size, size) @ torch.ones(size, size) + offset


def out_of_memory():
    raise OutOfMemory


def compare(ours, *peers, **kwargs):
    return measure(Comparison(dict(model='m'), ours, peers), SETTINGS, **kwargs)


def test_rows():
    ours, peer = compare(Candidate('ours', product(8), tokens=4, images=2), Candidate('peer', product(16)))
    assert (ours['candidate'], ours['peer'], ours['tokens'], ours['labels']) == ('ours', False, 4, dict(model='m'))
    assert (peer['candidate'], peer['peer'], peer['tokens'], peer['images_per_second']) == ('peer', True, None, None)
    assert ours['ratio'] is ours['memory_ratio'] is ours['difference'] is peer['difference'] is None
    assert len(ours['samples']) == len(peer['samples']) == 3
    assert ours['images_per_second'] == pytest.approx(2 / ours['seconds']['median'])
    ratios = sorted(a / b for a, b in zip(ours['samples'], peer['samples']))
    assert peer['ratio']['median'] == ratios[1]
    assert (ours['flops'], peer['flops']) == (2 * 8**3, 2 * 16**3)
    assert ours['roofline'] > 0


@pytest.mark.parametrize(('ours', 'compiled', 'expected'), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_candidate_runs_models_of_this_package_by_fast_products_unless_they_are_compiled(fast, ours, compiled, expected):
    assert Candidate('c', build_modes, ours=ours).step(compiled)(0) == expected
    assert build_modes()(0) == 0


@pytest.mark.parametrize('memory', [True, False])
def test_measure_runs_ours_by_fast_products_and_the_peer_without(fast, memory):
    ours, peer = (Candidate('c', build_modes, same_output=True, ours=ours) for ours in (True, False))
    _, row = measure(Comparison({}, ours, (peer, )), Settings(repeats=1, memory=memory))
    assert row['difference']['absolute'] == 1


@pytest.mark.parametrize(('case', 'arguments', 'others'), [
    (backbone, dict(networks=['vit', 'vitdet'], base=32, resolutions=[16, 32]),
     {'mmseg VisionTransformer', 'naive ViTDet'}),
    (inference, dict(networks=['setr', 'mask-rcnn'], base=32, resolutions=[32]), set()),
    (train_step, dict(networks=['setr', 'vitdet', 'mask-rcnn'], resolutions=[32]),
     {"full fine-tuning, mmseg VisionTransformer's layers", 'sum of the 4 losses, naive ViTDet'}),
    (end_to_end, dict(resolutions=[32], images=1, workers=0, out_dir='x'), {'mmseg tools/test.py'}),
])
def test_cases_name_the_models_of_others(case, arguments, others):
    comparisons = case.comparisons(SETTINGS, models=['tiny'], **arguments)
    candidates = [candidate for found in comparisons for candidate in (found.ours, *found.peers)]
    assert all(found.ours.ours for found in comparisons)
    assert {candidate.name for candidate in candidates if not candidate.ours} == others


def test_the_same_work_counts_what_the_leanest_needs():
    rows = compare(Candidate('ours', product(16), work='w'), Candidate('lean', product(8), work='w'),
                   Candidate('other', product(12)))
    assert [row['flops'] for row in rows] == [2 * 8**3, 2 * 8**3, 2 * 12**3]


def test_outputs_are_compared_where_they_should_be_the_same():
    _, same, other = compare(Candidate('ours', product(8)), Candidate('same', product(8, offset=0.5), same_output=True),
                             Candidate('other', product(8, offset=3.)))
    assert same['difference'] == dict(absolute=0.5, relative=0.5 / 8.5)
    assert other['difference'] is None


def test_difference_looks_at_all_outputs():
    ours, peer = [torch.zeros(2), torch.tensor([1., -4.])], [torch.tensor([0., 1.]), torch.tensor([1., -8.])]
    assert difference(ours, peer) == dict(absolute=4., relative=0.5)


def test_every_round_is_told_of():
    seen = []
    compare(Candidate('ours', product(8)), progress=lambda rounds: [seen.append(n) or n for n in rounds])
    assert seen == [0, 1, 2]


def test_candidates_of_a_round_get_the_same_number():
    seen = dict(ours=set(), peer=set())
    ours, peer = (Candidate(name, lambda name=name: seen[name].add) for name in seen)
    compare(ours, peer)
    assert seen == dict(ours={0, 1, 2}, peer={0, 1, 2})


def test_a_peer_that_runs_out_of_memory_keeps_its_row():
    _, peer, broken = compare(Candidate('ours', product(8)), Candidate('broken', out_of_memory),
                              Candidate('peer', product(8)))
    assert (peer['candidate'], broken['candidate']) == ('peer', 'broken')
    assert peer['ratio']
    assert broken['seconds'] is broken['ratio'] is None
    assert broken['peer']


def test_ours_must_not():
    with pytest.raises(InputError, match=r'^ours \(m\) ran out of memory: choose smaller'):
        compare(Candidate('ours', out_of_memory), Candidate('peer', product(8)))


def test_autocast_is_for_low_precision():
    layer = torch.nn.Linear(4, 4)
    for dtype in (torch.float32, torch.bfloat16):
        with Settings(dtype=dtype).autocast():
            assert layer(torch.ones(1, 4)).dtype == dtype
