"""Tuning the patch kernels: what is frozen, the objectives, and the mixin that every host joins."""
