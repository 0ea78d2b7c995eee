"""Patch kernels by least squares, in closed form, from unlabelled images."""
