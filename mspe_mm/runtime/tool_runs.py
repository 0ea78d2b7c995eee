"""Tools that run other tools, each in a process of its own."""
from __future__ import annotations

import sys
from pathlib import Path

from ..errors import InputError
from ..shipped import TOOLS
from .children import run_to_end
from .cli import TRUST


def run_tool(log: Path, tool: str, *args: object) -> None:
    """Run a tool to its end, with its output appended to ``log``. It ends when this process is stopped.

    Args:
        log: File; its folder exists.
        tool: Name of the file, such as ``'train.py'``.
        *args: Arguments. ``--trust-checkpoint`` is added if this process has it.

    Raises:
        InputError: With the last line of the output, if the tool fails.
    """
    trust = ['--trust-checkpoint'] if TRUST.parse_known_args()[0].trust_checkpoint else []
    command = [sys.executable, str(TOOLS / tool), *map(str, args), *trust]
    with log.open('a') as file:
        file.write(f'$ {" ".join(command)}\n')
        file.flush()
        code = run_to_end(command, file)
    if code:
        reason = log.read_text().strip().splitlines()[-1].removeprefix('error: ')
        raise InputError(f'{tool} failed in {log.parent}: {reason}')
