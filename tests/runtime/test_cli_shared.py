"""What the tools share: a full disk ends them in one sentence."""
import errno
import os

import pytest

from mspe_mm.runtime import cli


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EFBIG])
def test_run_says_that_the_disk_is_full_when_libraries_hide_it(code):
    def save():
        try:
            raise OSError(code, os.strerror(code))
        except OSError:
            raise RuntimeError('unexpected pos 704 vs 598')    # noqa: B904  as PyTorch does

    with pytest.raises(SystemExit, match=r'error: .* while writing results: free some room'):
        cli.run(save)
