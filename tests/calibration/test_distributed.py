"""Calibrating in several processes, against one process with all images."""
import pytest
import torch
import torch.multiprocessing
from helpers import layer_of, noise

from mspe_mm.calibration.moments import PairMoments
from mspe_mm.calibration.solver import Calibrator

SHARES = [(0, 5), (5, 5), (5, 12)]    # of the images, for three processes; one has none


def calibrator() -> Calibrator:
    torch.manual_seed(0)
    layer = layer_of(embed_dims=4, patch_size=8, grid_size=2, kernel_sizes=(2, 4, 8), fit='nearest').double()
    return Calibrator(layer, [2, 4])


def add(calibrator: Calibrator, first: int, last: int) -> None:
    for index in range(first, last):
        image = noise(1, 3, 16, 16, seed=index).cumsum(2).cumsum(3) + 100    # neighbouring pixels are alike
        small = {k: calibrator.patch_embed.downsampling.resize(image, (2 * k, 2 * k)) for k in (2, 4)}
        calibrator.update(image, small, held_out=index % 3 == 0)


def process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=len(SHARES))
    own, nothing = calibrator(), PairMoments(2, 3)
    add(own, *SHARES[rank])
    own.all_reduce()
    nothing.all_reduce()
    torch.save((own.finish(), nothing.count), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What each process calibrates, from its share of the images."""
    folder = tmp_path_factory.mktemp('processes')
    torch.multiprocessing.spawn(process, (str(folder), ), nprocs=len(SHARES))
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(len(SHARES))]


def test_processes_calibrate_the_kernels_of_one_process_with_all_images(found):
    alone = calibrator()
    add(alone, 0, 12)
    for kernels, _ in found:
        for k, expected in alone.finish().items():
            assert kernels[k].ridge == expected.ridge
            torch.testing.assert_close(kernels[k].weight, expected.weight, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(kernels[k].bias, expected.bias, rtol=1e-9, atol=1e-9)
            assert kernels[k].error_after == pytest.approx(expected.error_after, rel=1e-9)


def test_all_processes_have_the_same_kernels(found):
    for kernels, _ in found[1:]:
        assert all(torch.equal(kernels[k].weight, expected.weight) for k, expected in found[0][0].items())


def test_processes_without_pairs_have_none_together(found):
    assert [count for _, count in found] == [0, 0, 0]
