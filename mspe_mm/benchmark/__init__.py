"""Speed and memory as ratios to peers that run beside us in the same process."""
