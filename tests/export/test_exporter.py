"""Exported files, run by onnxruntime and PyTorch, against the hosts' models on images that the exporter has not seen."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_helpers import NORMALISED, model_of
from torch import nn

from mspe_mm.errors import InputError
from mspe_mm.export.exporter import TOLERANCE, check_output, export, load_graphs
from mspe_mm.export.formats import FORMATS, Onnx

pytestmark = pytest.mark.slow

SIZES = {'segmentor': [(64, 96), (16, 24), (40, 70)], 'segformer': [(32, 48)], 'swin': [(16, 24)], 'classifier': [(24, 24)],
         'detector': [(64, 64), (32, 32)]}
"""(40, 70) is no multiple of the token grid."""
MEAN, STD = (np.array(NORMALISED[key], np.float32).reshape(1, 3, 1, 1) for key in ('mean', 'std'))


def images_of(size: tuple[int, int], batch: int = 1) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (batch, 3, *size), dtype=np.uint8)


def by_host(model: nn.Module, images: np.ndarray, mean: np.ndarray = MEAN, std: np.ndarray = STD) -> list[np.ndarray]:
    """The host's own forward pass on RGB images that are normalised by the formula."""
    x = torch.from_numpy((images.astype(np.float32) - mean) / std)
    with torch.no_grad():
        if hasattr(model, 'decode_head'):
            return [model.decode_head(model.backbone(x)).numpy()]
        if hasattr(model, 'timm_name'):
            return [model.backbone(x).numpy()]
        return [level.numpy() for level in model.neck(model.backbone(x))]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Returns a model by its name, the folder of its export, and export.json; each is exported once."""
    @cache
    def of(name: str, format: str = 'onnx') -> tuple[nn.Module, Path, dict]:
        folder = tmp_path_factory.mktemp(name)
        model = model_of(name)
        content = export(model, SIZES[name], folder, format)
        assert json.loads((folder / 'export.json').read_text()) == content
        return model, folder, content
    return of


@pytest.mark.parametrize('name', SIZES)
def test_the_onnx_files_of_a_model_compute_its_outputs(exported, name):
    model, folder, content = exported(name)
    assert [tuple(entry['size']) for entry in content['resolutions']] == SIZES[name]
    mean, std = (127.5, 127.5) if name == 'classifier' else (MEAN, STD)    # of timm's weights of that name
    for entry in content['resolutions']:
        assert [Path(file).stem.partition('_')[0] for file in entry['files']] == ['embed', 'encoder']
        images = images_of(entry['size'])
        assert_close(load_graphs(folder, entry['files'])(images), by_host(model, images, mean, std))
        assert entry['difference'] <= TOLERANCE * max(1, entry['largest'])


def test_a_resolution_adds_one_convolution_by_its_resized_kernel(exported):
    model, folder, _ = exported('segmentor')
    graph = onnx.load(folder / 'embed_16x24.onnx').graph
    assert [node.op_type for node in graph.node] == ['Cast', 'Sub', 'Div', 'Conv', 'Reshape', 'Transpose']
    layer = model.backbone.patch_embed
    expected = layer.sized_kernel((4, 4), layer.kernel_index((16, 24)))[0].detach().numpy()
    conv = next(node for node in graph.node if node.op_type == 'Conv')
    weight = next(tensor for tensor in graph.initializer if tensor.name == conv.input[1])
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), expected)
    held = sum(onnx.numpy_helper.to_array(tensor).size for tensor in graph.initializer)
    assert held < expected.size + 100    # bias, mean, deviation, shapes: the other kernels are not in it


def test_an_onnx_model_has_the_names_and_shapes_of_its_inputs_and_outputs(exported):
    _, folder, content = exported('detector')
    embed, encoder = (onnxruntime.InferenceSession(folder / name) for name in content['resolutions'][1]['files'])
    (image, ), (tokens, ) = embed.get_inputs(), embed.get_outputs()
    assert (image.name, image.type, image.shape) == ('images', 'tensor(uint8)', [1, 3, 32, 32])
    assert (tokens.name, tokens.shape) == ('tokens', [1, 16, 16])
    assert [node.name for node in encoder.get_inputs()] == ['tokens']
    assert [node.name for node in encoder.get_outputs()] == [f'features_{level}' for level in range(5)]


@pytest.mark.parametrize('reverses', [True, False])
def test_an_exported_model_takes_rgb_whatever_order_its_network_has(tmp_path, reverses):
    model = model_of('segmentor', preprocessor=dict(bgr_to_rgb=reverses))
    (entry, ) = export(model, [(16, 24)], tmp_path, 'torch')['resolutions']
    images = images_of((16, 24))
    expected = by_host(model, images) if reverses else by_host(model, images[:, ::-1])
    assert_close(load_graphs(tmp_path, entry['files'], 'torch')(images), expected)


def test_merged_files_share_their_weights_and_compute_the_same(tmp_path):
    model = model_of('segmentor')
    content = export(model, [(16, 24), (64, 96)], tmp_path, merge=True, batch_size=2)
    assert sorted(os.listdir(tmp_path)) == ['export.json', 'model_16x24.onnx', 'model_64x96.onnx', 'weights.bin']
    shared = []
    for entry in content['resolutions']:
        images = images_of(entry['size'], 2)
        assert_close(load_graphs(tmp_path, entry['files'])(images), by_host(model, images))
        tensors = onnx.load(tmp_path / entry['files'][0], load_external_data=False).graph.initializer
        shared.append({(tensor.name, *(part.value for part in tensor.external_data)) for tensor in tensors
                       if tensor.data_location == onnx.TensorProto.EXTERNAL})
    assert shared[0] == shared[1]
    assert {location for _, location, *_ in shared[0]} == {'weights.bin'}
    matrices = sum(parameter.numel() for parameter in model.backbone.layers.parameters() if parameter.dim() == 2)
    assert (tmp_path / 'weights.bin').stat().st_size >= 4 * matrices


@pytest.mark.parametrize('name', ['segmentor', 'classifier', 'detector'])
def test_programs_of_torch_export_compute_the_outputs_of_a_model(exported, name):
    model, folder, content = exported(name, 'torch')
    mean, std = (127.5, 127.5) if name == 'classifier' else (MEAN, STD)
    for entry in content['resolutions']:
        images = images_of(entry['size'])
        found = load_graphs(folder, entry['files'], 'torch')(images)
        for a, b in zip(found, by_host(model, images, mean, std)):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)


def test_a_program_of_torch_export_runs_without_this_package(exported):
    _, folder, content = exported('segmentor', 'torch')
    code = '''
import sys
sys.modules.update(dict.fromkeys(['mspe_mm', 'mmseg', 'mmengine', 'mmcv']))
import torch
embed, encoder = (torch.export.load(name).module() for name in sys.argv[1:])
print(tuple(encoder(embed(torch.zeros(1, 3, 16, 24, dtype=torch.uint8)))[0].shape))
'''
    done = subprocess.run([sys.executable, '-c', code, *content['resolutions'][1]['files']], cwd=folder, capture_output=True,
                          text=True)
    assert done.stdout == '(1, 5, 16, 24)\n', done.stderr


class SeesTheImage(nn.Module):
    """An encoder that looks at the image past its patch embedding, as stems and image-level branches do."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.inner = backbone
        self.patch_embed = backbone.patch_embed

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [level + x.mean() * level.roll(1, dims=1) for level in self.inner(x)]    # no norm takes that back


def test_a_model_whose_encoder_sees_the_image_is_refused_and_nothing_is_left(tmp_path):
    model = model_of('segmentor')
    model.backbone = SeesTheImage(model.backbone)
    with pytest.raises(InputError, match=r'of 64 x 96 px differs from the model by .*more than 1e-04: nothing was written'):
        export(model, [(64, 96)], tmp_path / 'out', 'torch')
    assert list((tmp_path / 'out').iterdir()) == []


@pytest.mark.parametrize('error', [0.9, 1.1])
def test_check_output_refuses_what_differs_by_more_than_the_tolerance(error):
    model = model_of('segmentor')
    (expected, ) = by_host(model, torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8,
                                                generator=torch.Generator().manual_seed(0)).numpy())
    off = expected.copy()
    off[0, 0, 0, 0] += error * TOLERANCE * max(1, np.abs(expected).max())
    if error > 1:
        with pytest.raises(InputError, match='differs from the model'):
            check_output(model, lambda images: [off], (64, 96))
    else:
        assert check_output(model, lambda images: [off], (64, 96))['difference'] > 0.8 * TOLERANCE


def test_check_output_refuses_what_is_no_number():
    model = model_of('segmentor')
    with pytest.raises(InputError, match='by nan'):
        check_output(model, lambda images: [np.full((1, 5, 16, 24), np.nan, np.float32)], (64, 96))


@pytest.mark.parametrize(('changes', 'sizes', 'settings', 'expected'), [
    ({}, [(64, 96)], dict(format='tflite'), r"unknown format 'tflite': choose one of onnx, torch"),
    ({}, [(64, 96)], dict(format='torch', merge=True), r'--merge is for --format onnx'),
    ({}, [(64, 96), None], {}, r'a dynamic height or width cannot be exported, because the size of an image'),
    ({}, [(64, -1)], {}, r'a dynamic height or width cannot be exported'),
    (dict(backbone=dict(fit='floor')), [(40, 70)], {},
     r'40 x 70 px have 4 x 7 tokens, and the encoder is exported for 4 x 6: give a multiple of 4 x 6 px such as 40x72'),
    (dict(backbone=dict(kernel_policy='constant')), [(32, 48)], {}, r'32 x 48 px have 2 x 3 tokens'),
    (dict(preprocessor=dict(test_cfg=dict(size_divisor=32))), [(32, 48)], {}, r'pads images of 32 x 48 px to 32 x 64'),
    (dict(test_cfg=dict(mode='slide', crop_size=(64, 96), stride=(32, 48))), [(64, 96)], {},
     r"model.test_cfg.mode is 'slide'.*export with --cfg-options model.test_cfg.mode=whole"),
])
def test_export_refuses_in_one_sentence_what_it_cannot_write(tmp_path, changes, sizes, settings, expected):
    with pytest.raises(InputError, match=expected) as error:
        export(model_of('segmentor', **changes), sizes, tmp_path / 'out', **settings)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'out').exists()


def test_export_of_a_detector_refuses_a_canvas_of_patches_that_are_not_square(tmp_path):
    with pytest.raises(InputError, match='pads images of 32 x 64 px to 64 x 64 px: give 64x64'):
        export(model_of('detector'), [(32, 64)], tmp_path)


def test_export_refuses_a_folder_that_has_an_export(exported):
    model, folder, _ = exported('segmentor', 'torch')
    before = sorted(os.listdir(folder))
    with pytest.raises(InputError, match='has an export already: remove it, or write to another folder'):
        export(model, [(64, 96)], folder)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"--format onnx needs {package}, .*pip install 'mspe_mm\[export\]'"):
        export(model_of('segmentor'), [(64, 96)], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_format_that_fails_half_way_leaves_no_files(tmp_path, monkeypatch):
    def full(program, path, names):
        path.write_bytes(b'half')
        raise OSError(28, 'No space left on device', str(path))
    monkeypatch.setattr(Onnx, 'save', full)
    with pytest.raises(OSError, match='No space'):
        export(model_of('segmentor'), [(64, 96)], tmp_path)
    assert os.listdir(tmp_path) == []
    assert FORMATS['onnx'] is Onnx
