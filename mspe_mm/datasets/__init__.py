"""Data sets that are made here instead of downloaded."""
