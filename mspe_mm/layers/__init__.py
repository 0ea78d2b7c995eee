"""What an image passes through, in plain PyTorch."""
