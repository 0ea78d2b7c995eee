"""Models as static graphs that run without this package: ONNX files, and programs of ``torch.export``."""
