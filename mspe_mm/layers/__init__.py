"""The parts of the forward pass, in plain PyTorch."""
