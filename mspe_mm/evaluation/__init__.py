"""The multi-scale evaluation: every method at every resolution, as a table, JSON and a figure."""
