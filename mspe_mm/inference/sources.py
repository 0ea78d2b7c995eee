"""What a command line predicts on: images, folders, globs and videos."""
from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..data.image_folder import IMAGE_SUFFIXES, find_images
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
    """The images and frames that ``inputs`` name, in their order.

    Args:
        inputs: Files of images or videos, folders (read with their subfolders) and glob patterns.

    Raises:
        InputError: If an input names nothing, a video cannot be read, or two inputs would have the same outputs.
    """
    sources = [source for text in inputs for source in _sources_of(text)]
    by_name: dict[str, Source] = {}
    for source in sources:
        other = by_name.setdefault(source.name, source)
        if other.key != source.key:
            raise InputError(f'{other.key} and {source.key} would both be written to {source.name}: give their common '
                             'folder as the input, or write to two folders')
    return list(by_name.values())


def _sources_of(text: str) -> Iterator[Source]:
    path = Path(text)
    if path.is_dir():
        for name in find_images(path):
            yield Source(path / name, str(Path(name).with_suffix('')))
    elif path.is_file():
        yield from _sources_of_file(path)
    else:
        found = sorted(name for name in glob.glob(text, recursive=True) if Path(name).is_file())
        if not found:
            raise InputError(f'{text} does not exist' if not glob.has_magic(text) else f'no file matches {text}')
        for name in found:
            yield from _sources_of_file(Path(name))


def _sources_of_file(path: Path) -> Iterator[Source]:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        frames = count_frames(path)
        for frame in range(frames):
            yield Source(path, f'{path.stem}/{frame:06d}', frame)
    elif suffix in IMAGE_SUFFIXES:
        yield Source(path, path.stem)
    else:
        raise InputError(f'{path} is neither an image ({", ".join(IMAGE_SUFFIXES)}) nor a video '
                         f'({", ".join(VIDEO_SUFFIXES)})')


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
        self._video: cv2.VideoCapture | None = None
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


class VideoWriters:
    """Writes the overlays of frames as videos, ``videos/NAME.mp4``; a video that is continued starts at its first new frame.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._path, self._writer = Path(folder) / 'videos', None, None

    def add(self, source: Source, overlay: Image.Image) -> None:
        """Add the overlay of a frame; frames of one video come one after the other, all at the size of the first."""
        if source.path != self._path:
            self.close()
            video = cv2.VideoCapture(str(source.path))
            rate = video.get(cv2.CAP_PROP_FPS) or 25.
            video.release()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path, self._size = source.path, (overlay.width // 2 * 2, overlay.height // 2 * 2)    # mp4 wants even sides
            target = self._folder / f'{source.path.stem}.mp4'
            self._writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*'mp4v'), rate, self._size)
            if not self._writer.isOpened():
                raise InputError(f'{target} cannot be written: this OpenCV has no MPEG-4 encoder')
        frame = Image.new('RGB', self._size, 'white')
        frame.paste(overlay)    # the legend of a later frame may be wider or narrower
        self._writer.write(np.asarray(frame)[..., ::-1])

    def close(self) -> None:
        """Finish the video that is being written."""
        if self._writer is not None:
            self._writer.release()
        self._path = self._writer = None
