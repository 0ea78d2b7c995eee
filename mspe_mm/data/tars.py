"""Images in WebDataset tars, read at random places.

The address of an image is ``tar://SHARD.tar/NAME``. Importing this module registers the addresses with mmengine, so that
every transform that loads a file takes them. Tars are read like folders: data sets know their images by number, so the
samplers share them out to processes and continue in the middle of an epoch as they do for folders. Tars that are streamed
have no such numbers. Tars have to be local files (or mounted), and not compressed.
"""
from __future__ import annotations

import tarfile
from functools import lru_cache
from pathlib import Path

from mmengine.fileio import BaseStorageBackend, register_backend

from ..errors import InputError

PREFIX = 'tar://'


def is_tar(source: str | Path) -> bool:
    """Whether images are in tars: a path that ends in ``.tar``, or several by braces, ``shards/{000..099}.tar``."""
    return str(source).endswith('.tar')


def find_in_tars(source: str | Path, suffixes: tuple[str, ...]) -> list[str]:
    """Addresses of the images in tars, in the order of the tars and of the images inside.

    A name before its first point is WebDataset's key of a sample, the rest is its extension: ``1.seg.png`` is no image.

    Args:
        source: Path of a tar; braces name several.
        suffixes: Extensions of images, in lower case.

    Raises:
        InputError: If a tar does not exist or cannot be read, or there is no image, or the library is missing.
    """
    try:
        from webdataset.shardlists import expand_urls
        from webdataset.tariterators import base_plus_ext
    except ModuleNotFoundError as error:
        raise InputError(f'{source}: reading tars needs WebDataset: install mspe_mm[webdataset]') from error
    found = [f'{PREFIX}{shard}/{name}' for shard in expand_urls(str(source)) for name in index_of(shard)
             if f'.{base_plus_ext(name)[1]}'.lower() in suffixes]
    if not found:
        raise InputError(f'there are no images in {source} ({", ".join(suffixes)})')
    return found


@lru_cache(maxsize=4096)
def index_of(shard: str) -> dict[str, tuple[int, int]]:
    """Place and length in bytes of every file in a tar, by name; read once in each process.

    Raises:
        InputError: If the tar does not exist, or is none, or is compressed.
    """
    try:
        with tarfile.open(shard, 'r:') as tar:
            return {member.name: (member.offset_data, member.size) for member in tar if member.isfile()}
    except FileNotFoundError as error:
        raise InputError(f'{shard} does not exist') from error
    except tarfile.TarError as error:
        raise InputError(f'{shard} is not a tar, or is compressed ({error}): write plain tars') from error


@register_backend('tar', prefixes='tar', force=True)
class TarBackend(BaseStorageBackend):
    """mmengine's reading of one file of a tar."""

    def get(self, filepath: str) -> bytes:
        """The bytes at the address ``filepath``.

        Raises:
            InputError: If there are none.
        """
        shard, _, name = str(filepath).removeprefix(PREFIX).partition('.tar/')
        place = index_of(f'{shard}.tar').get(name)
        if place is None:
            raise InputError(f'{shard}.tar has no {name}')
        with open(f'{shard}.tar', 'rb') as file:
            file.seek(place[0])
            return file.read(place[1])

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """:meth:`get` as text."""
        return self.get(filepath).decode(encoding)
