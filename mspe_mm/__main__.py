"""The command ``mspe``: the tools as subcommands. ``mspe train CONFIG`` runs tools/train.py.

    mspe                                # lists the commands
    mspe train my_mspe.py
    torchrun --nproc_per_node 8 -m mspe_mm train my_mspe.py --launcher pytorch
"""
from __future__ import annotations

import ast
import difflib
import sys
from pathlib import Path

from .shipped import TOOLS
from .version import __version__

NAMES = {'eval-multiscale': 'sweep'}
"""Commands that have another name than their file."""


def commands() -> dict[str, Path]:
    """The file of each command."""
    files = {path.stem.replace('_', '-'): path for path in sorted(TOOLS.glob('*.py'))}
    return {NAMES.get(name, name): path for name, path in files.items()}


def usage() -> str:
    """What ``mspe --help`` prints: each command, with the first sentence of its file."""
    lines = [f'mspe_mm {__version__}', 'usage: mspe COMMAND [ARGUMENTS]; mspe COMMAND --help explains the arguments', '']
    found = commands()
    for name in sorted(found):
        description = (ast.get_docstring(ast.parse(found[name].read_text())) or '').partition('\n\n')[0]
        lines.append(f'  {name:<16} ' + ' '.join(description.split()).partition(': python ')[0].rstrip(':.'))
    return '\n'.join(lines)


def main() -> None:
    """Run the command of ``sys.argv``."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else '--help'), sys.argv[2:]
    if name in ('-h', '--help'):
        print(usage())
        return
    if name == '--version':
        print(__version__)
        return
    path = commands().get(name.replace('_', '-')) or commands().get(NAMES.get(name.replace('_', '-'), ''))
    if path is None:
        near = difflib.get_close_matches(name, commands(), n=1)
        sys.exit(f'error: there is no command {name!r}' + (f': did you mean {near[0]!r}?' if near else
                                                           ': mspe --help lists them'))
    sys.argv = [f'mspe {name}', *arguments]
    exec(compile(path.read_text(), path, 'exec'), dict(__name__='__main__', __file__=str(path)))    # runpy would change argv


if __name__ == '__main__':
    main()
