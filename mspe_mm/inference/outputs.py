"""Predictions as files: label maps, detections in COCO's format, classes, overlays and an index."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image

from ..errors import InputError
from ..files import replacing
from .overlay import best_classes, label_map, names_of, overlay


class PredictionFolder:
    """A folder of predictions that grows image by image and can be continued.

    ``predictions.json`` says of every image what was found and where it is. It is written whole or not at all.

    Args:
        folder: Where to write.
        header: What identifies the run; it stands before the predictions.
        classes: Names of the classes; numbers where the model does not know them.
        palette: Their colours.
        min_score: Least score of a detection in an overlay.

    Raises:
        InputError: If the folder has the predictions of another run, or a damaged index.
    """

    def __init__(self, folder: str | Path, header: dict, classes: Sequence[str] | None,
                 palette: Sequence[Sequence[int]] | None = None, min_score: float = 0.3) -> None:
        self.folder, self.header, self.min_score = Path(folder), json.loads(json.dumps(header)), min_score
        self.classes, self.palette = classes, palette
        self.records: dict[str, dict] = {}
        path = self.folder / 'predictions.json'
        if path.is_file():
            self.records = self._read(path)

    def _read(self, path: Path) -> dict[str, dict]:
        try:
            found = json.loads(path.read_text())
            records = {record['image']: record for record in found.pop('predictions')}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f'{path} cannot be continued, it is damaged ({" ".join(str(error).split())}): remove it, or '
                             'write to another folder') from error
        for key, value in self.header.items():
            if found.get(key) != value:
                raise InputError(f'{path} is of another run: its {key} is {found.get(key)}, and this run has {value}; write '
                                 'to another folder')
        return {key: record for key, record in records.items() if 'failure' not in record}    # failures are tried again

    def has(self, key: str) -> bool:
        """Whether an image is done."""
        return key in self.records and 'failure' not in self.records[key]

    def overlay(self, key: str) -> Path:
        """The file of the overlay of an image that is done."""
        return self.folder / self.records[key]['overlay']

    def add(self, key: str, name: str, image: np.ndarray, sample: BaseDataElement,
            resolution: Sequence[int]) -> None:
        """Write what was predicted of an image.

        Args:
            key: What identifies the image.
            name: Path of its outputs, without suffix.
            image: (H, W, 3) RGB, 8 bits, at its original size.
            sample: The host's data sample with the prediction.
            resolution: (height, width) in pixels at which the model saw the image.
        """
        record = dict(image=key, size=list(image.shape[:2]), resolution=list(resolution))
        if 'pred_sem_seg' in sample:
            self._add_labels(record, name, sample)
        elif 'pred_instances' in sample:
            self._add_instances(record, sample)
        else:
            self._add_scores(record, sample)
        picture = overlay(image, sample, self.classes, self.palette, self.min_score)
        record['overlay'] = self._save(picture, f'overlays/{name}.png')
        self.records[key] = record

    def add_failure(self, key: str, reason: str) -> None:
        """Note an image that could not be predicted."""
        self.records[key] = dict(image=key, failure=reason)

    def write_index(self) -> None:
        """Write ``predictions.json``, and of a detector ``detections.json`` in COCO's format for results."""
        records = list(self.records.values())
        self._write_json('predictions.json', dict(self.header, classes=self.classes, predictions=records))
        if any('detections' in record for record in records):
            self._write_json('detections.json', [dict(detection, image_id=index, file_name=record['image'])
                                                 for index, record in enumerate(records)
                                                 for detection in record.get('detections', [])])

    def _add_labels(self, record: dict, name: str, sample: BaseDataElement) -> None:
        labels = label_map(sample)
        classes = names_of(self.classes, int(labels.max()) + 1)
        found, counts = np.unique(labels, return_counts=True)
        record['labels'] = self._save(
            Image.fromarray(labels.astype(np.uint8 if len(classes) <= 256 else np.uint16)), f'labels/{name}.png')
        record['shares'] = {classes[index]: round(count / labels.size, 4) for index, count in zip(found, counts.tolist())}

    def _add_instances(self, record: dict, sample: BaseDataElement) -> None:
        found = sample.pred_instances.cpu().numpy()
        masks = found.masks if 'masks' in found else None
        classes = names_of(self.classes, int(found.labels.max(initial=0)) + 1)
        record['detections'] = [
            dict(category_id=int(label), category=classes[label], score=round(float(score), 5),
                 bbox=[round(float(value), 3) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
                 **({} if masks is None else dict(segmentation=_run_lengths(masks[index]))))
            for index, (box, label, score) in enumerate(zip(found.bboxes, found.labels, found.scores))]

    def _add_scores(self, record: dict, sample: BaseDataElement) -> None:
        record['top'] = [dict(label=index, category=name, score=round(score, 5))
                         for index, name, score in best_classes(sample, self.classes)]

    def _save(self, picture: Image.Image, name: str) -> str:
        with replacing(self.folder / name) as temporary:
            picture.save(temporary, format='png')
        return name

    def _write_json(self, name: str, content: object) -> None:
        with replacing(self.folder / name) as temporary:
            Path(temporary).write_text(json.dumps(content, indent=1) + '\n')


def _run_lengths(mask: np.ndarray) -> dict:
    """A mask (H, W) in COCO's compressed run-length encoding."""
    from pycocotools import mask as coco
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=[int(length) for length in encoded['size']], counts=encoded['counts'].decode())
