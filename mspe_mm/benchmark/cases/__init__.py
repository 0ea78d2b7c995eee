"""The cases: each module makes the comparisons of one."""
