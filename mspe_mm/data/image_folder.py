"""Images alone, for tuning without annotations (``objective='distill'``)."""
from __future__ import annotations

from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.utils import scandir

from ..errors import InputError
from .tars import PREFIX, find_in_tars, is_tar

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def find_images(folder: str | Path) -> list[str]:
    """Paths of the images in a folder and the folders inside, relative to it and sorted; of tars, addresses of the images.

    Args:
        folder: A folder, or tars as :func:`~mspe_mm.data.tars.find_in_tars` takes them.

    Raises:
        InputError: If the folder does not exist or holds no image.
    """
    if is_tar(folder):
        return find_in_tars(folder, IMAGE_SUFFIXES)
    if not Path(folder).is_dir():
        raise InputError(f'folder {folder} does not exist')
    names = sorted(scandir(str(folder), IMAGE_SUFFIXES, recursive=True, case_sensitive=False))
    if not names:
        raise InputError(f'there are no images in {folder} ({", ".join(IMAGE_SUFFIXES)})')
    return names


def path_in(folder: str | Path, name: str) -> str:
    """The path of an image that :func:`find_images` found in ``folder``."""
    return name if name.startswith(PREFIX) else str(Path(folder) / name)


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images of a folder and of the folders inside it, or of tars, without annotations; every host finds it by its name.

    Args:
        *args, **kwargs: mmengine's: the folder is ``data_root`` and ``data_prefix.img_path``, or they name
            WebDataset tars, ``shards/{000..099}.tar``. ``metainfo`` is kept in
            checkpoints, as that of other data sets is.

    Raises:
        InputError: If the folder does not exist or holds no image.
    """

    def load_data_list(self) -> list[dict]:
        """``dict(img_path=..., img_id=...)`` of every image, in the order of their names."""
        folder = Path(self.data_prefix.get('img_path') or self.data_root)
        return [dict(img_path=path_in(folder, name), img_id=index) for index, name in enumerate(find_images(folder))]
