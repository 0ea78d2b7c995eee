"""tools/export.py on tiny models of the three hosts, and docs/run_onnx.py on what it wrote, without PyTorch."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from export_helpers import config, model_of
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from tools_helpers import ROOT, World

from mspe_mm.data.change_resolution import at_resolution
from mspe_mm.inference.predictor import load
from mspe_mm.models.adapter import save_adapter

SEGMENTATION = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64), keep_ratio=False, backend='pillow'),
                dict(type='PackSegInputs')]
DETECTION = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True, backend='pillow'),
             dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
CLASSIFICATION = [dict(type='LoadRGBImage'), dict(type='TimmTransform'), dict(type='PackImage')]
DATASETS = dict(mmseg='BaseSegDataset', mmdet='CocoDataset', mmengine='TimmImageFolder')
CLASSES = ['sand', 'gravel', 'disc', 'box', 'cross']

# Without what the export is there to do without.
RUN_ONNX = f'''
import runpy, sys
sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'mspe_mm', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'timm', 'onnx']))
runpy.run_path({str(ROOT / 'docs/run_onnx.py')!r}, run_name='__main__')
'''


class ExportWorld(World):
    """Configs, checkpoints and images of models that are not trained."""

    def write_model(self, name: str, model: torch.nn.Module, cfg: ConfigDict, scope: str, pipeline: list[dict]) -> None:
        """``name.py`` and ``name.pth``."""
        dataset = dict(type=DATASETS[scope], pipeline=pipeline, metainfo=dict(classes=CLASSES))
        Config(dict(model=cfg.to_dict(), default_scope=scope, test_dataloader=dict(dataset=dataset))).dump(
            self.folder / f'{name}.py')
        torch.save(dict(state_dict=model.state_dict()), self.folder / f'{name}.pth')

    def write_image(self, name: str, size: tuple[int, int]) -> None:
        """A smooth image of (height, width), with noise on it."""
        rng = np.random.default_rng(3)
        smooth = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size[::-1], Image.BICUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 12, (*size, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(self.folder / name)

    def run_onnx(self, *args: object) -> subprocess.CompletedProcess:
        """docs/run_onnx.py, in a process that cannot import PyTorch."""
        return self.command(sys.executable, '-c', RUN_ONNX, *args)


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> ExportWorld:
    world = ExportWorld(tmp_path_factory.mktemp('world'))
    for name, scope, pipeline in (('segmentor', 'mmseg', SEGMENTATION), ('classifier', 'mmengine', CLASSIFICATION),
                                  ('detector', 'mmdet', DETECTION)):
        model = model_of(name)
        world.write_model(name, model, config(name), scope, pipeline)
    for size in ((64, 96), (32, 48), (150, 201), (64, 64), (32, 32)):
        world.write_image(f'{size[0]}x{size[1]}.png', size)
    return world


@pytest.fixture(scope='module')
def segmentor(world) -> str:
    """The folder of a segmentor's export, with an adapter."""
    model = model_of('segmentor')
    for parameter in model.mspe_layer.kernels.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(model.mspe_layer, world.folder / 'adapter.safetensors')
    world.call('export.py', 'segmentor.py', 'segmentor.pth', '--adapter', 'adapter.safetensors', '--resolutions', 32,
               '64x96', '--merge', '--out-dir', 'exported/segmentor')
    return 'exported/segmentor'


def assert_same_labels(found: np.ndarray, sample) -> None:
    """Equal wherever the two largest logits are not the same to rounding."""
    best = sample.seg_logits.data.topk(2, dim=0).values
    decided = (best[0] - best[1] > 1e-3).numpy()
    assert decided.mean() > 0.95
    np.testing.assert_array_equal(found[decided], sample.pred_sem_seg.data[0].numpy()[decided])
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize('name', ['64x96.png', '32x48.png', '150x201.png'])
def test_run_onnx_gives_the_label_map_of_the_predictor(world, segmentor, name):
    """Of an image of an exported size, and of a larger one, which both bring to the base resolution."""
    done = world.run_onnx(segmentor, name, '--out', 'labels.png')
    predictor = load(world.folder / 'segmentor.py', world.folder / 'segmentor.pth', world.folder / 'adapter.safetensors',
                     device='cpu')
    (sample, ) = predictor(world.folder / name)
    found = np.asarray(Image.open(world.folder / 'labels.png'))
    assert_same_labels(found, sample)
    index = int(np.bincount(found.ravel()).argmax())
    assert f'{(found == index).mean():7.2%}  {CLASSES[index]}' in done.stdout


def test_run_onnx_at_a_resolution_gives_the_label_map_of_the_predictor_at_it(world, segmentor):
    world.run_onnx(segmentor, '64x96.png', '--resolution', '32x48', '--out', 'labels.png')
    predictor = load(world.folder / 'segmentor.py', world.folder / 'segmentor.pth', world.folder / 'adapter.safetensors',
                     device='cpu', resolution=(32, 48))
    assert_same_labels(np.asarray(Image.open(world.folder / 'labels.png')), predictor(world.folder / '64x96.png')[0])


def test_export_prints_the_differences_and_the_sizes_of_the_files(world, capsys):
    world.call('export.py', 'segmentor.py', 'segmentor.pth', '--resolutions', 32, '--out-dir', 'exported/plain',
               '--format', 'torch')
    out = capsys.readouterr().out
    assert '32x48: embed_32x48.pt2 + encoder.pt2, largest difference to the model ' in out
    assert 'MiB  exported/plain/encoder.pt2' in out
    assert sorted(os.listdir(world.folder / 'exported/plain')) == ['embed_32x48.pt2', 'encoder.pt2', 'export.json']


def test_run_onnx_gives_the_scores_of_a_classifier_after_timms_transform(world):
    world.call('export.py', 'classifier.py', 'classifier.pth', '--resolutions', 32, '--out-dir', 'exported/classifier')
    done = world.run_onnx('exported/classifier', '150x201.png')
    model = model_of('classifier')
    init_default_scope('mmengine')
    pipeline = Compose(at_resolution(CLASSIFICATION, scale=(0.5, 0.5)))
    pipeline.transforms[1].match_model(model)
    item = pipeline(dict(img_path=str(world.folder / '150x201.png'), img_shape=None))
    batch = model.data_preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
    with torch.no_grad():
        scores = model.backbone(batch['inputs'])[0].softmax(0)
    order = scores.argsort(descending=True).tolist()
    found = [line.split() for line in done.stdout.splitlines()]
    assert [name for _, name in found] == [CLASSES[index] for index in order]
    assert [float(score) for score, _ in found] == pytest.approx(scores[order].tolist(), abs=2e-5)    # of five digits


@pytest.mark.parametrize('name', ['64x64.png', '32x32.png', '150x201.png'])
def test_run_onnx_gives_the_features_that_a_detectors_heads_see(world, name):
    if not (world.folder / 'exported/detector').exists():
        world.call('export.py', 'detector.py', 'detector.pth', '--resolutions', 32, 64, '--out-dir', 'exported/detector')
    done = world.run_onnx('exported/detector', name, '--out', 'features.npz')
    assert 'features_0 (1, 8, 16, 16)' in done.stdout
    predictor = load(world.folder / 'detector.py', world.folder / 'detector.pth', device='cpu')
    item = predictor.prepare(predictor.read(world.folder / name))
    with torch.no_grad():
        batch = predictor.model.data_preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
        expected = predictor.model.extract_feat(batch['inputs'])
    found = np.load(world.folder / 'features.npz')
    for level, values in enumerate(expected):
        np.testing.assert_allclose(found[f'features_{level}'], values.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('args', 'expected'), [
    (['--resolutions', 'dynamic'], 'a dynamic height or width cannot be exported, because the size of an image decides'),
    (['--resolutions', 32, -1], 'a dynamic height or width cannot be exported'),
    (['--resolutions', 32, '--cfg-options', 'model.backbone.fit=floor', 'model.backbone.kernel_policy=constant'],
     'have 2 x 3 tokens, and the encoder is exported for 4 x 6: give a multiple'),
    (['--resolutions', 1000], 'is more than 8 times the base resolution'),
    (['--resolutions', 32, '--format', 'torch', '--merge'], '--merge is for --format onnx'),
])
def test_export_refuses_in_one_sentence(world, args, expected):
    assert expected in world.fails('export.py', 'segmentor.py', 'segmentor.pth', '--out-dir', 'exported/refused', *args)
    assert not (world.folder / 'exported/refused').exists()


def test_export_names_a_package_that_is_missing(world, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert "--format onnx needs onnxruntime, which cannot be imported: pip install 'mspe_mm[export]'" in world.fails(
        'export.py', 'segmentor.py', 'segmentor.pth', '--resolutions', 32, '--out-dir', 'exported/refused')


@pytest.mark.parametrize('args', [['--format', 'tflite'], ['--resolutions', 'large'], ['--batch-size', '0']])
def test_export_refuses_unknown_arguments(world, capsys, args):
    with pytest.raises(SystemExit) as exit_:
        world.call('export.py', 'segmentor.py', 'segmentor.pth', '--resolutions', 32, '--out-dir', 'refused', *args)
    assert exit_.value.code == 2
    assert f'error: argument {args[0]}: ' in capsys.readouterr().err


def test_run_onnx_refuses_a_resolution_that_is_not_exported(world, segmentor):
    done = subprocess.run([sys.executable, ROOT / 'docs/run_onnx.py', world.folder / segmentor, world.folder / '32x48.png',
                           '--resolution', '16'], capture_output=True, text=True)
    assert done.stderr == '16 is not exported: choose one of [[32, 48], [64, 96]]\n'
    assert done.returncode == 1


def test_export_json_says_what_the_model_is(world, segmentor):
    found = json.loads((world.folder / segmentor / 'export.json').read_text())
    assert found['classes'] == CLASSES
    assert (found['task'], found['base_resolution'], found['token_grid']) == ('segmentation', [64, 96], [4, 6])
    assert [(entry['files'], entry['patch']) for entry in found['resolutions']] == [
        (['model_32x48.onnx'], [8, 8]), (['model_64x96.onnx'], [16, 16])]
