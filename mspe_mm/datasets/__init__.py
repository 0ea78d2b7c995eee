"""Data sets that are made here instead of downloaded, and pairs of images that kernels are calibrated from."""
