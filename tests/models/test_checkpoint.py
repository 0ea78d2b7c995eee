"""Checkpoints that are missing, damaged or of another model end in one sentence."""
import pytest
import torch
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.errors import InputError
from mspe_mm.models.checkpoint import check_fits, read_checkpoint


class Model(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.patch_embed = MultiScalePatchEmbed(3, width, 8, 2, (2, 8))
        self.norm = nn.BatchNorm1d(width)


def test_a_checkpoint_is_read(tmp_path):
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(epoch=3)), tmp_path / 'good.pth')
    assert read_checkpoint(tmp_path / 'good.pth')['meta']['epoch'] == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'no\.pth does not exist'):
        read_checkpoint(tmp_path / 'no.pth')


@pytest.mark.parametrize('keep', [0, 10, 500])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=Model().state_dict()), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r'cut\.pth cannot be read, it is truncated'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [dict(meta=1), [1, 2], dict(state_dict={})])
def test_a_file_without_weights_is_named(tmp_path, content):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(InputError, match=r'other\.pth holds no weights'):
        read_checkpoint(tmp_path / 'other.pth')


@pytest.mark.parametrize('lacking', ['nothing', '.kernels.', 'num_batches'])
def test_check_fits_accepts_own_weights_stock_weights_and_those_of_an_older_batch_norm(lacking):
    model = Model()
    weights = {name: value for name, value in model.state_dict().items() if lacking not in name}
    check_fits(model, weights, 'x.pth')
    loaded = model.load_state_dict(weights, strict=False)
    assert loaded.unexpected_keys == []
    assert all(lacking in name for name in loaded.missing_keys)


def test_another_model_is_refused_with_what_differs():
    model = Model()
    weights = model.state_dict()
    with pytest.raises(InputError, match=r'1 missing \(norm.bias\)'):
        check_fits(model, {name: value for name, value in weights.items() if name != 'norm.bias'}, 'x.pth')
    with pytest.raises(InputError, match=r'x\.pth .* 1 unexpected \(head\)'):
        check_fits(model, dict(weights, head=torch.ones(1)), 'x.pth')
    with pytest.raises(InputError, match=r'of another shape \(patch_embed\.proj\.weight \(16, 3, 8, 8\) for \(8, 3, 8, 8\)'):
        check_fits(model, Model(16).state_dict(), 'x.pth')


def test_some_of_the_kernels_are_not_enough():
    model = Model()
    weights = {name: value for name, value in model.state_dict().items() if name != 'patch_embed.kernels.2.bias'}
    with pytest.raises(InputError, match=r'kernels\.2\.bias'):
        check_fits(model, weights, 'x.pth')
