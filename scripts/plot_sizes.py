"""Plot the metric of sweeps at multiples of the token grid and at other sizes, as in docs/predict.md:

    python scripts/plot_sizes.py docs/any_size.png MULTIPLES NEAREST FLOOR

MULTIPLES, NEAREST and FLOOR are the output folders of tools/eval_multiscale.py for one method: at multiples of the token
grid, and at other sizes by fit='nearest' and by fit='floor'.
"""
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt


def curve(folder):
    """Heights in pixels and mIoU of a sweep."""
    rows = json.loads((Path(folder) / 'results.json').read_text())['rows']
    return np.array(sorted((row['resolution'][0], row['metrics']['mIoU']) for row in rows)).T


def main():
    out, multiples, nearest, floor = sys.argv[1:]
    _, axes = plt.subplots(figsize=(6.4, 3.4))
    on, values = curve(multiples)
    axes.plot(on, values, '-o', color='0.6', markersize=4, label='multiples of the token grid')
    for folder, style, label in ((nearest, 'o', "other sizes, fit='nearest'"), (floor, 'x', "other sizes, fit='floor'")):
        sizes, found = curve(folder)
        axes.plot(sizes, found, style, label=label)
        print(f'{label}: at most {max(np.interp(sizes, on, values) - found):.2f} below the curve, mean '
              f'{np.mean(found - np.interp(sizes, on, values)):+.2f}')
    axes.set(xlabel='side of the images in px', ylabel='mIoU', xscale='log')
    axes.set_xticks([8, 16, 32, 64, 128, 256], ['8', '16', '32', '64', '128', '256'])
    axes.minorticks_off()
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    plt.savefig(out, dpi=120, bbox_inches='tight')


if __name__ == '__main__':
    main()
