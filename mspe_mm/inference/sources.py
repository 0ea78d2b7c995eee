"""What a command line predicts on: images, folders, globs and videos."""
from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import scandir

from ..data.image_folder import IMAGE_SUFFIXES
from ..errors import InputError

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


@dataclass(frozen=True)
class Source:
    """One image, or one frame of a video.

    Attributes:
        path: Its file.
        name: Path of its outputs, without suffix, relative to the folder of each kind of output.
        frame: Number of the frame from 0; None for an image.
    """

    path: Path
    name: str
    frame: int | None = None

    @property
    def key(self) -> str:
        """What identifies it in ``predictions.json``."""
        return str(self.path) if self.frame is None else f'{self.path}#{self.frame}'


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """The images and frames that ``inputs`` name, in their order, each once.

    Args:
        inputs: Files of images or videos, folders (read with their subfolders) and glob patterns.

    Raises:
        InputError: If an input names nothing, a video cannot be read, or two inputs would have the same outputs.
    """
    files = dict.fromkeys(pair for text in inputs for pair in _files_of(text))    # file, and path of its outputs
    count = Counter(name.with_suffix('') for _, name in files)
    sources: dict[str, Source] = {}
    for path, name in files:
        stem = name.with_suffix('') if count[name.with_suffix('')] == 1 else name    # a.jpg beside a.png
        for source in _frames(Source(path, stem.as_posix())):
            other = sources.setdefault(source.name, source)
            if other.key != source.key:
                raise InputError(f'{other.key} and {source.key} would both be written to {source.name}: give their common '
                                 'folder as the input, or write to two folders')
    return list(sources.values())


def _files_of(text: str) -> Iterator[tuple[Path, Path]]:
    path = Path(text)
    if path.is_dir():
        names = sorted(scandir(text, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES), recursive=True, case_sensitive=False))
        if not names:
            raise InputError(f'there are no images or videos in {text} ({", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))})')
        yield from ((path / name, Path(name)) for name in names)
        return
    found = [text] if path.is_file() else sorted(name for name in glob.glob(text, recursive=True) if Path(name).is_file())
    if not found:
        raise InputError(f'no file matches {text}' if glob.has_magic(text) else f'{text} does not exist')
    for name in found:
        if Path(name).suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
            raise InputError(f'{name} is neither an image ({", ".join(IMAGE_SUFFIXES)}) nor a video '
                             f'({", ".join(VIDEO_SUFFIXES)})')
        yield Path(name), Path(Path(name).name)


def _frames(source: Source) -> Iterator[Source]:
    if source.path.suffix.lower() not in VIDEO_SUFFIXES:
        yield source
        return
    for frame in range(count_frames(source.path)):
        yield replace(source, name=f'{source.name}/{frame:06d}', frame=frame)


def count_frames(path: Path) -> int:
    """Frames of a video.

    Raises:
        InputError: If it cannot be read.
    """
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    if count < 1:
        raise InputError(f'{path} cannot be read as a video')
    return count


class FrameReader:
    """Reads frames of videos; the next frame needs no search."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._video = cv2.VideoCapture()
        self._next = 0

    def read(self, path: Path, frame: int) -> np.ndarray:
        """A frame (H, W, 3), BGR, 8 bits.

        Raises:
            InputError: If it cannot be decoded.
        """
        if path != self._path:
            self._path, self._video, self._next = path, cv2.VideoCapture(str(path)), 0
        if frame != self._next:
            self._video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        read, image = self._video.read()
        self._next = frame + 1
        if not read:
            raise InputError(f'frame {frame} of {path} cannot be decoded')
        return image


def write_video(path: Path, original: Path, frames: Sequence[Path]) -> None:
    """Write pictures as a video of the frame rate of another; all have the size of the largest.

    Args:
        path: File to write, ``.mp4``.
        original: The video whose frame rate it has.
        frames: Files of the pictures.

    Raises:
        InputError: If this OpenCV cannot write it.
    """
    video = cv2.VideoCapture(str(original))
    rate = video.get(cv2.CAP_PROP_FPS) or 25.
    video.release()
    shapes = [cv2.imread(str(frame)).shape for frame in frames]
    height, width = (max(lengths) + max(lengths) % 2 for lengths in list(zip(*shapes))[:2])    # MPEG-4 wants even sides
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, (width, height))
    if not writer.isOpened():
        raise InputError(f'{path} cannot be written: this OpenCV has no MPEG-4 encoder')
    for frame in frames:
        picture = np.full((height, width, 3), 255, np.uint8)
        image = cv2.imread(str(frame))
        picture[:image.shape[0], :image.shape[1]] = image
        writer.write(picture)
    writer.release()
