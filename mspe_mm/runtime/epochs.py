"""Training by epochs that continues in the middle of one."""
from __future__ import annotations

from collections.abc import Sequence

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler

from .randomness import seeded_sampler


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``, which goes on with the next batch after a checkpoint in the middle of an epoch.

    Such checkpoints are written with ``default_hooks.checkpoint=dict(by_epoch=False, interval=...)``. mmengine's loop would
    begin the epoch again.
    """

    _done = 0    # batches of the epoch that the checkpoint has seen
    _to_discard = 0    # those of them that are loaded again

    def run_epoch(self) -> None:
        self._done = max(0, self._iter - self._epoch * len(self.dataloader))
        sampler = seeded_sampler(self.dataloader)
        if self._done and sampler is not None and type(self.dataloader.batch_sampler) is BatchSampler:
            sampler.start = self._done * self.dataloader.batch_size    # without loading them
            self._to_discard = 0
        else:
            self._to_discard = self._done
        super().run_epoch()
        self._done = 0

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        if self._to_discard > idx:
            return
        super().run_iter(idx + self._done - self._to_discard, data_batch)
