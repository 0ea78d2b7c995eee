"""Train the six models of RIViT's comparison, 3 position encodings x 2 patch embeddings, and print the report's two tables.

    python tools/compare_rivit.py configs/rivit_imagenette.py --out-dir results/rivit

A second call continues where the first one stopped; finished trainings are not repeated.
"""
from pathlib import Path

from mmengine.dist import is_main_process
from prettytable import MARKDOWN

from mspe_mm.errors import InputError, check_distinct
from mspe_mm.evaluation.report import save_json
from mspe_mm.evaluation.rivit_comparison import accuracy_at, tables, variants
from mspe_mm.files import replacing
from mspe_mm.runtime import cli
from mspe_mm.runtime.fileio import latest_checkpoint


def parse_args():
    parser = cli.parser('Compare the patch embeddings and position encodings of RIViT')
    parser.add_argument('--out-dir', required=True, help='folder for the six trainings, results.json and table.md')
    parser.add_argument('--resolutions', nargs='+', type=int, default=[160, 256, 320], metavar='R',
                        help='resolutions to evaluate at, in pixels; the first table is at the first of them; default '
                        '160 256 320')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = cli.load_config(args)
    if 'rivit' not in cfg.model.get('timm_name', ''):
        raise InputError(f'config {args.config} has no RIViT: use configs/rivit_imagenette.py, or a config on top of it')
    out, rows = Path(args.out_dir), []
    check_distinct(args.resolutions, '--resolutions')
    if out.exists() and not out.is_dir():
        raise InputError(f'--out-dir {out} is a file: give a folder')
    for name, variant in variants(cfg):
        variant.work_dir = str(out / name)
        variant.experiment_name = f'{name}_{Path(args.config).stem}'
        variant.load_from = latest_checkpoint(variant.work_dir)
        variant.resume = variant.load_from is not None
        runner = cli.build_runner(variant)
        runner.train()
        rows += [accuracy_at(runner, resolution) for resolution in args.resolutions]
        if is_main_process():
            save_json(dict(config=args.config, rows=rows), out / 'results.json')
    if is_main_process():
        found = tables(rows, args.resolutions)
        print('\n'.join(table.get_string() for table in found))
        for table in found:
            table.set_style(MARKDOWN)
        with replacing(out / 'table.md') as temporary:
            Path(temporary).write_text('\n\n'.join(table.get_string() for table in found) + '\n')
        print(f'written to {out}: results.json, table.md')


if __name__ == '__main__':
    cli.run(main)
