"""Plot the metric of a sweep at multiples of the token grid and of another at other sizes, as in docs/predict.md:

    python scripts/plot_sizes.py docs/any_size.png MULTIPLES OTHERS

MULTIPLES and OTHERS are the output folders of tools/eval_multiscale.py for one method of segmentation.
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
    out, multiples, others = sys.argv[1:]
    (on, values), (sizes, found) = curve(multiples), curve(others)
    _, axes = plt.subplots(figsize=(6.4, 3.4))
    axes.plot(on, values, '-o', color='0.6', markersize=4, label='multiples of the token grid')
    axes.plot(sizes, found, 'x', color='tab:red', label='other sizes')
    axes.set(xlabel='side of the images in px', ylabel='mIoU', xscale='log')
    axes.set_xticks([8, 16, 32, 64, 128], ['8', '16', '32', '64', '128'])
    axes.minorticks_off()
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    plt.savefig(out, dpi=120, bbox_inches='tight')
    for size, value, line in zip(sizes, found, np.interp(sizes, on, values)):
        print(f'{size:.0f} px: {value:.2f}, on the line between its neighbours {line:.2f}')


if __name__ == '__main__':
    main()
