"""Speed and memory of this package's models, as ratios to peers that are measured in the same process."""
