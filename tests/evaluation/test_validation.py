"""Which images are validated on."""
import pytest

from mspe_mm.evaluation.validation import EvenSampler


@pytest.mark.parametrize(('images', 'wanted', 'expected'), [(10, 2, [2, 7]), (3, 3, [0, 1, 2]), (3, 200, [0, 1, 2])])
def test_even_sampler_takes_images_evenly_and_in_order(images, wanted, expected):
    sampler = EvenSampler(range(images), wanted)
    assert list(sampler) == sampler.chosen == expected
    assert len(sampler) == len(expected)


def test_even_sampler_shares_its_images_among_processes(monkeypatch):
    seen = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        seen.append(list(EvenSampler(range(100), 4)))
    assert seen == [[12, 62], [37, 87]]
