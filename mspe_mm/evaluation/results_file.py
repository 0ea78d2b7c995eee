"""Reading the results.json of an interrupted sweep, and whether its rows belong to this run."""
from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError

SOURCES = {'mspe': 'adapter', 'calibrated': 'calibrated', 'finetuned': 'finetuned'}
"""The entry of the header that names the file of a method. File names do not identify a run; digests do."""

NAMES = ('config', 'checkpoint', 'training_seconds', *SOURCES.values())


def read_results(path: str | Path, key: str) -> dict:
    """The results of a sweep, if they can be resumed.

    Args:
        path: Path of a results.json.
        key: The entry of a row that has its size: ``'resolution'`` or ``'token_grid'``.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        found = json.loads(Path(path).read_text(), parse_constant=_refuse)
        problem = _problem(found, key)
    except (ValueError, RecursionError, IsADirectoryError) as error:
        problem = ' '.join(str(error).split())
    if problem:
        raise InputError(f'{path} cannot be resumed, it is damaged: {problem}; remove it or leave out --resume')
    return found


def check_same_run(path: str | Path, found: Mapping, header: Mapping) -> None:
    """Refuse results of another run.

    Args:
        path: Path of the file, for the message.
        found: Results of :func:`read_results`.
        header: The header of this run. Its entries :data:`NAMES` are not compared.

    Raises:
        InputError: Naming what differs.
    """
    remedy = 'choose another --out-dir or leave out --resume'
    header = json.loads(json.dumps(header))
    before, now = found.get('digests'), header.get('digests')
    if now and not isinstance(before, dict):
        raise InputError(f'{path} cannot be resumed: an earlier version wrote it, without the digests that identify a run; '
                         f'{remedy}')
    for name in sorted({*header, *found} - {'rows', 'digests', *NAMES}):
        if found.get(name) != header.get(name):
            raise InputError(f'{path} cannot be resumed: its {name} is {found.get(name)}, and this run has '
                             f'{header.get(name)}; {remedy}')
    differing = [name for name, digest in (now or {}).items() if before.get(name) != digest]
    if differing:
        raise InputError(f'{path} cannot be resumed: it was measured with other settings or weights '
                         f'({", ".join(differing)}); {remedy}')


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is not JSON')


def _problem(found: object, key: str) -> str | None:
    """The first error in the contents of a file; None if there is none."""
    if not isinstance(found, dict) or not isinstance(found.get('rows'), list):
        return 'it has no list of rows'
    for name, is_valid in HEADER_CHECKS.items():
        if not is_valid(found.get(name)):
            return f'its {name} is {str(found[name])[:40]!r}'
    seen = set()
    for index, row in enumerate(found['rows']):
        if not isinstance(row, dict):
            return f'row {index} is not an object'
        for name in (*REQUIRED, key):
            if name not in row:
                return f'row {index} has no {name}'
        for name, is_valid in CHECKS.items():
            if name in row and not is_valid(row[name]):
                return f'{name} of row {index} is {str(row[name])[:40]!r}'
        if row['images_per_second'] is None and 'failure' not in row:
            return f'row {index} has neither images_per_second nor failure'
        place = (row['method'], *row[key])
        if place in seen:
            return f'{row["method"]} at {" x ".join(map(str, row[key]))} has two rows'
        seen.add(place)
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_number_or_null(value: object) -> bool:
    return value is None or _is_number(value)


def _is_size(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(length) and length > 0 for length in value)


def _is_interval(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number_or_null, value))


CHECKS = dict(
    method=_is_text, resolution=_is_size, token_grid=_is_size, kernel_size=_is_size, trained_parameters=_is_count,
    metrics=lambda value: isinstance(value, dict) and all(map(_is_number_or_null, value.values())),
    intervals=lambda value: isinstance(value, dict) and all(map(_is_interval, value.values())),
    images_per_second=_is_number_or_null, gflops=_is_number, failure=_is_text, digest=_is_text)
"""Checks of the entries of a row."""

REQUIRED = ('method', 'resolution', 'token_grid', 'kernel_size', 'metrics', 'images_per_second')
"""Entries that every row has."""

HEADER_CHECKS = {
    'training_seconds': lambda value: value is None or (isinstance(value, dict)
                                                        and all(map(_is_number_or_null, value.values()))),
    **dict.fromkeys(SOURCES.values(), lambda value: value is None or _is_text(value))}
"""Checks of the header's entries that a resumed run may take over."""
