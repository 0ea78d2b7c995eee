"""Images in folders, a folder a class: ImageNet's layout."""
from __future__ import annotations

from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from timm.data import create_reader

from ..errors import InputError


@DATASETS.register_module()
class TimmImageFolder(BaseDataset):
    """A folder of class folders, read and numbered as timm does: in the natural order of their names.

    Args:
        *args, **kwargs: mmengine's: the folder is ``data_root`` and ``data_prefix.img_path``. ``metainfo.classes`` names the
            class folders in the order of the labels, for a folder that lacks some or has more.

    Raises:
        InputError: If the folder is missing or has no images in class folders.
    """

    def load_data_list(self) -> list[dict]:
        """``dict(img_path=..., gt_label=...)`` of every image, and ``metainfo['classes']``."""
        folder = Path(self.data_prefix.get('img_path') or self.data_root)
        if not folder.is_dir():
            raise InputError(f'{folder} does not exist: check data_root and data_prefix')
        classes = self._metainfo.get('classes')
        labels = {name: label for label, name in enumerate(classes)} if classes else None
        try:
            reader = create_reader('', str(folder), class_map=labels)
        except RuntimeError as error:    # 'Found 0 images in subfolders of ...'
            raise InputError(f'there are no images in class folders of {folder}: check data_root, data_prefix and '
                             'metainfo.classes') from error
        if '' in reader.class_to_idx:
            raise InputError(f'{folder} has images that are in no class folder: give the folder of the class folders')
        self._metainfo['classes'] = tuple(classes or reader.class_to_idx)    # in the order of the labels
        return [dict(img_path=path, gt_label=label) for path, label in reader.samples]
