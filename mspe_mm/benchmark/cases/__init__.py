"""The cases of the benchmark. Each module builds the comparisons of one case."""
