"""tools/predict.py as its user runs it, on small untrained models."""
from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import mspe_mm
from mspe_mm.data.change_resolution import imresize
from mspe_mm.inference import outputs


@pytest.fixture(autouse=True)
def _no_thousands_of_syncs(monkeypatch):
    monkeypatch.setattr('mspe_mm.files._sync', lambda path: None)


def photos(task, folder):
    """A folder of five images of several sizes, one of them in a subfolder."""
    (folder / 'photos/more').mkdir(parents=True)
    for index, share in enumerate((1, 2, 4, 2)):
        image = np.asarray(Image.open(task.images[index % len(task.images)]).convert('RGB'))
        Image.fromarray(imresize(image, tuple(length // share for length in image.shape[:2]))).save(
            folder / f'photos/{index}.png')
    Image.open(task.images[0]).convert('RGB').resize((37, 21)).save(folder / 'photos/more/odd.jpg')
    return folder / 'photos'


def predict(task, *args, tool='call'):
    return getattr(task.world, tool)('predict.py', 'mspe.py', 'stock.pth', '--device', 'cpu', '--adapter',
                                     'adapter.safetensors', *args)


def index_of(folder):
    return json.loads((folder / 'predictions.json').read_text())


def test_predict_of_a_segmentor_writes_label_maps_overlays_and_an_index(segmentation, tmp_path):
    folder, out = photos(segmentation, tmp_path), tmp_path / 'out'
    predict(segmentation, folder, '--out-dir', out, '--batch-size', 3)
    index = index_of(out)
    assert [record['image'] for record in index['predictions']] == [
        str(folder / name) for name in ('0.png', '1.png', '2.png', '3.png', 'more/odd.jpg')]
    assert index['classes'][0] == 'sand'
    predictor = mspe_mm.load(segmentation.folder / 'mspe.py', segmentation.folder / 'stock.pth',
                             segmentation.folder / 'adapter.safetensors', 'cpu')
    for record in index['predictions']:
        labels = np.asarray(Image.open(out / record['labels']))
        expected = predictor(record['image'])[0].pred_sem_seg.data[0].numpy()
        assert list(labels.shape) == record['size'] == list(expected.shape)
        assert (labels != expected).mean() < 0.01    # a batch adds in another order
        assert sum(record['shares'].values()) == pytest.approx(1, abs=1e-3)
        overlay = Image.open(out / record['overlay'])
        factor = max(1, 256 // max(labels.shape))    # small images are enlarged to be looked at
        assert overlay.width > factor * labels.shape[1]    # the legend
        assert overlay.height >= factor * labels.shape[0]
    assert index['predictions'][4]['resolution'] == [21, 37]    # as it is, not enlarged
    assert (out / 'labels/more/odd.png').is_file()


def test_predict_of_a_detector_writes_coco_json(detection, tmp_path):
    folder, out = photos(detection, tmp_path), tmp_path / 'out'
    predict(detection, folder, '--out-dir', out, '--min-score', 0)
    index, results = index_of(out), json.loads((out / 'detections.json').read_text())
    assert len(results) == sum(len(record['detections']) for record in index['predictions']) > 0
    predictor = mspe_mm.load(detection.folder / 'mspe.py', detection.folder / 'stock.pth',
                             detection.folder / 'adapter.safetensors', 'cpu')
    for number, record in enumerate(index['predictions']):
        own = [one for one in results if one['image_id'] == number]
        assert {one['file_name'] for one in own} == {record['image']}
        found = predictor(record['image'])[0].pred_instances
        assert len(own) == len(found)
        for one, box, score, label in zip(own, found.bboxes.tolist(), found.scores.tolist(), found.labels.tolist()):
            left, top, width, height = one['bbox']
            np.testing.assert_allclose([left, top, left + width, top + height], box, atol=0.1)
            assert one['score'] == pytest.approx(score, abs=1e-3)
            assert one['category'] == ('cat', 'dog', 'bird')[label]
            assert coco_mask.decode(one['segmentation']).shape == tuple(record['size'])


def test_predict_of_a_classifier_writes_the_five_best_classes(classification, tmp_path):
    folder, out = photos(classification, tmp_path), tmp_path / 'out'
    predict(classification, folder, '--out-dir', out)
    index = index_of(out)
    predictor = mspe_mm.load(classification.folder / 'mspe.py', classification.folder / 'stock.pth',
                             classification.folder / 'adapter.safetensors', 'cpu')
    for record in index['predictions']:
        scores = predictor(record['image'])[0].pred_score
        best = scores.topk(5)
        assert [one['label'] for one in record['top']] == best.indices.tolist()
        assert [one['category'] for one in record['top']] == [predictor.classes[i] for i in best.indices.tolist()]
        np.testing.assert_allclose([one['score'] for one in record['top']], best.values, atol=1e-3)
        assert (out / record['overlay']).is_file()


def test_predict_names_and_skips_an_unreadable_image_and_says_so_by_its_exit_code(segmentation, tmp_path, capsys):
    folder, out = photos(segmentation, tmp_path), tmp_path / 'out'
    (folder / '1.png').write_bytes(b'no image')
    sentence = predict(segmentation, folder, '--out-dir', out, tool='fails')
    assert '1 of 5 images could not be read' in sentence
    assert '1.png cannot be decoded' in sentence
    assert f'skipped: {folder / "1.png"}' in capsys.readouterr().err
    records = index_of(out)['predictions']
    assert len(records) == 5
    assert [record['image'] for record in records if 'failure' in record] == [str(folder / '1.png')]
    Image.open(folder / '0.png').save(folder / '1.png')    # repaired: tried again, and the others are kept
    before = (out / 'overlays/0.png').stat().st_mtime_ns
    predict(segmentation, folder, '--out-dir', out)
    assert all('overlay' in record for record in index_of(out)['predictions'])
    assert (out / 'overlays/0.png').stat().st_mtime_ns == before


def test_predict_continues_where_it_was_stopped(segmentation, tmp_path, monkeypatch, capsys):
    folder, out, reference = photos(segmentation, tmp_path), tmp_path / 'out', tmp_path / 'reference'
    predict(segmentation, folder, '--out-dir', reference, '--batch-size', 1)
    add, added = outputs.PredictionFolder.add, []

    def stopping(self, key, *args):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(key)
        add(self, key, *args)
    with monkeypatch.context() as patched:
        patched.setattr(outputs.PredictionFolder, 'add', stopping)
        with pytest.raises(SystemExit, match='interrupted'):
            predict(segmentation, folder, '--out-dir', out, '--batch-size', 1)
    assert len(index_of(out)['predictions']) == 3
    times = {path: path.stat().st_mtime_ns for path in out.rglob('*.png')}
    capsys.readouterr()
    predict(segmentation, folder, '--out-dir', out, '--batch-size', 1)
    assert f'3 of 5 images are in {out} already' in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert index_of(out) == index_of(reference)


def test_predict_does_not_continue_another_run(segmentation, tmp_path):
    folder, out = photos(segmentation, tmp_path), tmp_path / 'out'
    predict(segmentation, folder / '0.png', '--out-dir', out)
    sentence = predict(segmentation, folder / '0.png', '--out-dir', out, '--resolution', 64, tool='fails')
    assert 'is of another run: its resolution is None, and this run has [64]' in sentence
    (out / 'predictions.json').write_text('{"predictions": [')
    assert 'is damaged' in predict(segmentation, folder / '0.png', '--out-dir', out, tool='fails')


def test_predict_of_a_video_and_a_glob_writes_frames_and_a_video(segmentation, tmp_path):
    folder, out = photos(segmentation, tmp_path), tmp_path / 'out'
    frames = [np.asarray(Image.open(path).convert('RGB'))[..., ::-1] for path in segmentation.images[:4]]
    writer = cv2.VideoWriter(str(tmp_path / 'clip.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5, (128, 128))
    for frame in frames:
        writer.write(frame)
    writer.release()
    predict(segmentation, tmp_path / 'clip.mp4', folder / '[01].png', '--out-dir', out, '--batch-size', 3)
    assert [record['image'] for record in index_of(out)['predictions']] == [
        *(f'{tmp_path / "clip.mp4"}#{frame}' for frame in range(4)), str(folder / '0.png'), str(folder / '1.png')]
    assert sorted(path.name for path in (out / 'labels/clip').iterdir()) == [f'{frame:06d}.png' for frame in range(4)]
    video = cv2.VideoCapture(str(out / 'videos/clip.mp4'))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (4, 5)
    for frame in range(4):
        read, image = video.read()
        painted = cv2.imread(str(out / f'overlays/clip/{frame:06d}.png'))
        assert read
        assert np.abs(image[:256, :256].astype(float) - painted[:256, :256]).mean() < 20    # compression


def test_predict_at_a_resolution_shrinks_first_and_takes_mixed_precision(classification, tmp_path):
    folder, out = photos(classification, tmp_path), tmp_path / 'out'
    predict(classification, folder, '--out-dir', out, '--resolution', '32', '--amp')
    index = index_of(out)
    assert {tuple(record['resolution']) for record in index['predictions']} == {(32, 32)}
    assert (index['resolution'], index['precision']) == ([32], 'bfloat16')


@pytest.mark.parametrize(('inputs', 'sentence'), [
    (['none.png'], 'none.png does not exist'), (['none*.png'], 'no file matches none*.png'),
    (['mspe.py'], 'mspe.py is neither an image'), (['empty'], 'there are no images or videos in empty'),
    (['empty.mp4'], 'empty.mp4 cannot be read as a video'),
    (['a/x.png', 'b/x.png'], 'a/x.png and b/x.png would both be written to x'),
    (['a'], '--out-dir a/out is in the input folder a')])
def test_predict_refuses_bad_inputs(segmentation, inputs, sentence):
    for name in ('empty', 'a', 'b'):
        (segmentation.folder / name).mkdir(exist_ok=True)
    (segmentation.folder / 'empty.mp4').write_bytes(b'')
    for name in ('a', 'b'):
        Image.open(segmentation.images[0]).save(segmentation.folder / name / 'x.png')
    assert sentence in predict(segmentation, *inputs, '--out-dir', 'a/out', tool='fails')
