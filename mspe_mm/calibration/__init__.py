"""Patch kernels in closed form, from unlabelled images."""
