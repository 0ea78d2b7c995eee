"""Checkpoints that are missing, damaged or of another model end in one sentence."""
import argparse
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import CheckpointLoader
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.errors import InputError
from mspe_mm.models.checkpoint import (
    UntrustedCheckpointError,
    check_fits,
    load_weights,
    loading_safely,
    read_checkpoint,
    trusting_checkpoints,
    weights_of,
)


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


# -- No code is run ----------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path, )


@pytest.fixture
def evil(tmp_path):
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), extra=Payload(tmp_path / 'ran')), tmp_path / 'evil.pth')
    return tmp_path / 'evil.pth'


def test_read_checkpoint_runs_no_code(evil):
    with pytest.raises(UntrustedCheckpointError, match=r'evil\.pth cannot be read without running code.*it needs pathlib'):
        read_checkpoint(evil)
    assert not evil.with_name('ran').exists()


def test_read_checkpoint_runs_code_that_is_trusted(evil):
    with trusting_checkpoints():
        assert read_checkpoint(evil)['state_dict']['weight'].sum() == 2
    assert evil.with_name('ran').exists()
    evil.with_name('ran').unlink()
    with pytest.raises(UntrustedCheckpointError):    # outside of the block again
        read_checkpoint(evil)


@pytest.mark.parametrize('scheme', ['http://nowhere/evil.pth', 'https://nowhere/evil.pth', 'openmmlab://evil'])
def test_read_checkpoint_runs_no_code_of_what_mmengine_fetches(evil, monkeypatch, scheme):
    def load_url(url, *args, **kwargs):
        return torch.load(evil, weights_only=False)    # as torch.hub does

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', load_url)
    monkeypatch.setattr('mmengine.runner.checkpoint.get_external_models', lambda: dict(evil='http://nowhere/evil.pth'))
    with pytest.raises(UntrustedCheckpointError, match='without running code'):
        read_checkpoint(scheme)
    assert not evil.with_name('ran').exists()


def test_loading_safely_holds_for_mmengine_and_ends(evil):
    with loading_safely(), loading_safely(), pytest.raises(Exception, match='Weights only load failed'):
        CheckpointLoader.load_checkpoint(str(evil))
    assert not evil.with_name('ran').exists()
    torch.load(evil, weights_only=False)
    assert evil.with_name('ran').exists()


@pytest.mark.parametrize('value', [
    np.float64(1), np.float32(1), np.int64(1), np.bool_(True), np.arange(3), np.array(['a', 'b']), {1, 2},
    argparse.Namespace(lr=1.), OrderedDict(a=1)], ids=lambda value: type(value).__name__)
def test_read_checkpoint_takes_what_mmengine_writes(tmp_path, value):
    hub = MessageHub('test_checkpoint')
    hub.update_scalar('train/loss', 1.5)
    hub.update_info('value', value)
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(value=value), message_hub=hub.state_dict()),
               tmp_path / 'good.pth')
    found = read_checkpoint(tmp_path / 'good.pth')
    assert found['message_hub']['log_scalars']['train/loss'].statistics('mean') == 1.5
    assert type(found['meta']['value']) is type(value)


@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
def test_weights_of_leaves_the_wrapper_out(key):
    weights = {'module.a': torch.ones(1), 'module.b.module.c': torch.ones(1)}
    assert list(weights_of({key: weights} if key else weights)) == ['a', 'b.module.c']
    assert list(weights_of({'module.a': torch.ones(1), 'b': torch.ones(1)})) == ['module.a', 'b']


def test_load_weights_takes_a_wrapped_model(tmp_path):
    model, other = Model(), Model()
    torch.save(dict(state_dict=nn.DataParallel(other).state_dict()), tmp_path / 'wrapped.pth')
    load_weights(model, tmp_path / 'wrapped.pth')
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('content', ['text', 3, None, [torch.ones(1)], dict(state_dict=[1]), dict(state_dict='x'),
                                     {1: torch.ones(1)}, torch.ones(1)])
def test_read_checkpoint_names_a_file_of_another_kind(tmp_path, content):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(InputError, match=r'other\.pth holds no weights'):
        read_checkpoint(tmp_path / 'other.pth')
