"""The rows of a sweep: saved as each is measured, and kept by a run that resumes another."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from tqdm import tqdm

from ..errors import InputError
from .report import number, save_json, value_of
from .results_file import SOURCES, check_same_run, read_results


def collect_rows(points: list[tuple[str, tuple[int, int]]], measure: Callable[[str, tuple[int, int]], dict], key: str,
                 out_dir: str | Path, header: dict, headline: Sequence[str], resume: bool = False,
                 digests: Mapping[str, str] | None = None) -> dict:
    """Rows of all ``points``, pairs of a method and a size, and with ``resume`` all others of the same run.

    Args:
        points: What to measure, in order.
        measure: Function from a method and a size to a row.
        key: The entry of a row that holds its size.
        out_dir, header, resume, digests: See :func:`~mspe_mm.evaluation.sweep.sweep`.
        headline: Metrics that are printed of each row.
    """
    for method, size in points:
        if points.count((method, size)) > 1:
            raise InputError(f'{method} at {size[0]} x {size[1]} is given twice: leave one of them out of --methods, '
                             '--resolutions or --token-grid')
    path, digests = Path(out_dir) / 'results.json', digests or {}
    rows, order = {}, points
    if resume and path.exists():
        found = read_results(path, key)
        check_same_run(path, found, header)
        rows, stale = _sort_out(found['rows'], key, digests)
        order = list(dict.fromkeys([*((row['method'], tuple(row[key])) for row in found['rows']), *points]))
        header = _with_sources(header, found, rows)
        if is_main_process():
            _tell(path, rows, stale, points)
    methods = list(dict.fromkeys(method for method, _ in order))
    places = {point: (methods.index(point[0]), index) for index, point in enumerate(order)}

    def results() -> dict:
        return dict(header, rows=[rows[point] for point in sorted(rows, key=places.get)])

    for method, size in points:
        if (method, size) not in rows:
            row = measure(method, size)
            if method in digests:
                row['digest'] = digests[method]
            rows[method, size] = row
            if is_main_process():
                save_json(results(), path)
        if is_main_process():
            tqdm.write(_line(rows[method, size], size, headline))
    return results()


def _sort_out(rows: list[dict], key: str, digests: Mapping[str, str]) -> tuple[dict, dict[str, int]]:
    """The rows to keep, by method and size, and the number of rows of each method that have another digest."""
    kept: dict = {}
    stale: dict[str, int] = {}
    for row in rows:
        method = row['method']
        if row.get('digest') == digests.get(method, row.get('digest')):
            kept[method, tuple(row[key])] = row
        else:
            stale[method] = stale.get(method, 0) + 1
    return kept, stale


def _with_sources(header: dict, found: Mapping, rows: Mapping[tuple, dict]) -> dict:
    """The header with the file names and training times of methods that only the earlier runs had."""
    methods = {method for method, _ in rows}
    header = dict(header)
    for method in methods & {*SOURCES}:
        if found.get(SOURCES[method]) and not header.get(SOURCES[method]):
            header[SOURCES[method]] = found[SOURCES[method]]
    seconds = {method: value for method, value in (found.get('training_seconds') or {}).items() if method in methods}
    if seconds:
        header['training_seconds'] = {**seconds, **(header.get('training_seconds') or {})}
    return header


def _tell(path: Path, rows: Mapping[tuple, dict], stale: Mapping[str, int], points: Sequence[tuple]) -> None:
    """Print which rows of a file are kept and which are not."""
    tqdm.write(f'{path}: {len(rows)} rows are kept, {len([point for point in points if point not in rows])} are measured')
    for method, count in stale.items():
        tqdm.write(f'{path}: {count} rows of {method} are dropped, they were measured with another '
                   f'{dict(mspe="adapter or tuned checkpoint", calibrated="calibrated adapter").get(method, "checkpoint")}')


def _line(row: dict, size: tuple[int, int], headline: Sequence[str]) -> str:
    figures = '   '.join(f'{name} {number(value_of(row, name)):>5}' for name in headline if name in row['metrics'])
    figures += f'cannot run: {row["failure"]}' if 'failure' in row else f'   {row["images_per_second"]:.1f} images/s'
    return f'{row["method"]:>10} {size[0]:>4} x {size[1]:<4} {figures}'
