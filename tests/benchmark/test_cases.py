"""Every case through the command line, on models that are smaller than the smallest. No ratio is asserted."""
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mspe_mm.benchmark.cases import resize
from mspe_mm.benchmark.ratios import Settings
from mspe_mm.benchmark.timing import SHORTEST
from mspe_mm.layers import resize as core_resize


def by_candidate(results):
    return {(*row['labels'].values(), row['candidate']): row for row in results['rows']}


def test_resize(tool, small):
    results = tool('resize', '--models', 'tiny', '--sizes', 12, 24, '--repeats', 2)
    assert len(results['rows']) == 8    # two sizes, cached or not, ours and timm's
    assert {row['candidate'] for row in results['rows']} == {
        'pi_resize', 'timm resample_patch_embed', 'timm PatchEmbedResamplerFixedOrigSize'}
    for row in results['rows']:
        assert row['memory'] is row['flops'] is None
        if row['peer']:
            assert row['difference']['relative'] < 1e-5
    assert results['settings']['dtype'] == 'float32'
    assert results['environment']['torch'] == torch.__version__


@settings(max_examples=10)
@given(st.integers(1, 20))
def test_timms_resizers_agree_with_ours_cached_and_not(size):
    for cached in (False, True):
        ours, timms = (make(4, size, cached, Settings())(0) for make in (resize.ours, resize.timms))
        torch.testing.assert_close(ours, timms, rtol=1e-4, atol=1e-4 * float(timms.abs().max()))


def test_nothing_is_cached_where_nothing_should_be():
    step = resize.ours(4, 24, cached=False, settings=Settings())
    step(0)
    caches = [function for function in vars(core_resize).values() if hasattr(function, 'cache_info')]
    assert caches
    resize.forget()
    assert all(cache.cache_info().currsize == 0 for cache in caches)


def test_backbone(tool, small):
    results = tool('backbone', '--models', 'tiny', '--base-resolution', 64, '--resolutions', 32, 64, 128, '--repeats', 1,
                   '--no-memory')
    rows = by_candidate(results)
    assert len(results['rows']) == 2 * (4 + 3 + 4)
    for name, peer in (('MSPEViT', 'mmseg VisionTransformer'), ('MSPEViTDet', 'naive ViTDet')):
        for resolution, tokens in ((32, 4), (64, 16), (128, 64)):
            labels = ('ViT-Ti', f'{resolution} px')
            assert rows[(*labels, name)]['tokens'] == 16
            assert rows[(*labels, peer)]['tokens'] == tokens
            assert rows[(*labels, peer)]['difference']['absolute'] < 1e-5
        stock = rows['ViT-Ti', '64 px', f'{name}, stock patch embedding']
        assert stock['difference']['absolute'] < 1e-5
        assert stock['flops'] == rows['ViT-Ti', '64 px', name]['flops'] > 0


def test_memory_is_measured_in_processes_of_their_own(tool):
    """Of the real ViT-Ti: those processes do not know of a smaller one."""
    results = tool('backbone', '--networks', 'vit', '--base-resolution', 64, '--resolutions', 64, '--repeats', 1,
                   '--batch-size', 64, '--dtype', 'bfloat16')    # Linux counts less than a megabyte imprecisely
    for row in results['rows']:
        weights = 5.5e6 * 2    # ViT-Ti's parameters, in bfloat16
        assert row['memory']['peak'] > weights
        assert 0 < row['memory']['step'] < row['memory']['peak']


def test_train_step(tool, small):
    results = tool('train-step', '--models', 'tiny', '--networks', 'setr', 'vitdet', '--resolutions', 32, '--repeats', 1,
                   '--no-memory')
    rows = by_candidate(results)
    assert len(rows) == 5 + 2 + 5
    for network, count in (('SETR', 1), ('ViTDet', 2)):
        sums = [row for key, row in rows.items() if key[0].startswith(network) and key[2].startswith('sum of')]
        assert len(sums) == count
        for row in sums:
            assert row['difference']['relative'] < 1e-5
        ours, full, one = (rows[f'{network}, ViT-Ti', '32 px', name] for name in (
            'MSPE tuning, K = 4', 'full fine-tuning, the same 4 passes', 'one resolution'))
        assert one['flops'] < ours['flops'] < full['flops']
    mixed, full = (rows['SETR, ViT-Ti', '32 px', name] for name in (
        'MSPE tuning, one of 4 resolutions for each image, teacher', 'full fine-tuning, 4 resolutions for each image'))
    assert mixed['flops'] < 0.3 * full['flops']    # 3 passes of 12: forward, gradient of the inputs, teacher


def test_inference(tool, small):
    results = tool('inference', '--models', 'tiny', '--networks', 'setr', '--base-resolution', 64, '--resolutions', 32, 64,
                   '--repeats', 1, '--no-memory')
    assert [(row['candidate'], row['tokens']) for row in results['rows']] == [
        ('mspe', 16), ('vanilla', 4), ('img_resize', 16), ('mspe', 16), ('vanilla', 16), ('img_resize', 16)]
    assert all(row['images_per_second'] > 0 for row in results['rows'])
    assert [row['difference']['absolute'] for row in results['rows'][4:]] == [0., 0.]    # at the base they are one model


def test_inference_on_coarser_token_grids(tool, small):
    results = tool('inference', '--models', 'tiny', '--networks', 'setr', '--base-resolution', 64, '--resolutions', 32,
                   '--token-grids', 2, 3, '--repeats', 1, '--no-memory')
    rows = {row['candidate']: row for row in results['rows']}
    assert {name: row['tokens'] for name, row in rows.items() if 'tokens' in name} == {
        'mspe, 2 x 2 tokens': 4, 'mspe, 3 x 3 tokens': 9}
    assert rows['mspe, 2 x 2 tokens']['flops'] < rows['mspe, 3 x 3 tokens']['flops'] < rows['mspe']['flops']


def test_inference_of_a_detector(tool, small):
    results = tool('inference', '--models', 'tiny', '--networks', 'mask-rcnn', '--base-resolution', 32, '--resolutions', 32,
                   '--repeats', 1, '--no-memory')
    assert [(row['labels']['model'], row['candidate']) for row in results['rows']] == [
        ('Mask R-CNN, ViT-Ti', method) for method in ('mspe', 'vanilla', 'img_resize')]


def test_export(tool, small):
    results = tool('export', '--models', 'tiny', '--networks', 'setr', '--base-resolution', 64, '--resolutions', 32,
                   '--repeats', 1)
    ours, peer = results['rows']
    assert (ours['candidate'], peer['candidate'], ours['tokens']) == ('onnxruntime', 'PyTorch', 16)
    assert 0 < peer['difference']['relative'] < 1e-4
    assert ours['seconds']['median'] > 0


def test_end_to_end(tool, small):
    results = tool('end-to-end', '--models', 'tiny', '--resolutions', 32, '--images', 3, '--repeats', 1)
    ours, peer = results['rows']
    assert peer['candidate'] == 'mmseg tools/test.py'
    assert peer['difference']['absolute'] < 1e-4    # mIoU in percent
    assert ours['images_per_second'] == pytest.approx(3 / ours['seconds']['median'])
    assert ours['seconds']['median'] > SHORTEST


def test_mixed_sizes(tool, small):
    results = tool('mixed-sizes', '--models', 'tiny', '--resolutions', 64, '--images', 9, '--repeats', 1)
    _, alone, padded = results['rows']
    assert [row['candidate'] for row in results['rows']] == ['one pass', 'one by one', 'padded']
    assert alone['difference']['absolute'] < 1e-3    # the same predictions; the padded images have others
    assert padded['difference'] is None
    assert all(row['images_per_second'] > 0 for row in results['rows'])


def test_backbones_are_compiled_where_that_is_wanted(tool, small, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, 'compile', lambda function: compiled.append(function) or function)
    tool('inference', '--models', 'tiny', '--networks', 'setr', '--base-resolution', 32, '--resolutions', 32, '--repeats', 1,
         '--no-memory', '--compile')
    assert [type(function.__self__).__name__ for function in compiled] == ['MSPEViT'] * 3


def test_what_is_done_survives_an_interruption(tool, small, monkeypatch):
    from mspe_mm.benchmark import ratios as comparison
    measure, done = comparison.measure, []

    def interrupted(*args):
        if done:
            raise KeyboardInterrupt
        done.extend(measure(*args))
        return done
    monkeypatch.setattr(comparison, 'measure', interrupted)
    with pytest.raises(SystemExit, match='interrupted'):
        tool('resize', '--models', 'tiny', '--sizes', 12, '--repeats', 1)
    rows = json.loads(Path('work_dirs/benchmark/resize/results.json').read_text())['rows']
    assert [row['candidate'] for row in rows] == ['pi_resize', 'timm resample_patch_embed']
