"""Data sets that are made here instead of downloaded, images without annotations, and pairs of them for calibration."""
