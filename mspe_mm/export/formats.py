"""The file formats: how a graph is written and run."""
from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from ..errors import InputError

Run = Callable[[np.ndarray], 'list[np.ndarray]']
"""A loaded graph: its one input to its outputs."""


class Onnx:
    """ONNX, run by onnxruntime on the CPU."""

    suffix = '.onnx'
    weights = 'weights.bin'    # of merged files

    @staticmethod
    def check_installed() -> None:
        """Raise an InputError if a package is missing."""
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise InputError(f"--format onnx needs {package}, which cannot be imported: pip install 'mspe_mm[export]', "
                                 'or take --format torch') from error

    @staticmethod
    def save(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
        """Write a program with its input's and outputs' ``names``."""
        torch.onnx.export(program, (), path, input_names=names[:1], output_names=names[1:], dynamo=True,
                          external_data=False, verbose=False)

    @staticmethod
    def load(path: Path, threads: int = 0) -> Run:
        """A graph to run by so many threads; 0 for onnxruntime's own choice."""
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        name = session.get_inputs()[0].name
        return lambda value: session.run(None, {name: value})

    @classmethod
    def merge(cls, first: Sequence[Path], second: Path, targets: Sequence[Path]) -> None:
        """Write each of ``first`` with ``second`` behind it. The weights of ``second`` are one file beside all of them."""
        import onnx
        tail = onnx.load(second)
        onnx.save(tail, second, save_as_external_data=True, location=cls.weights, size_threshold=1024)
        tail = onnx.load(second, load_external_data=False)
        for path, target in zip(first, targets):
            head = onnx.load(path)
            inner = onnx.compose.add_prefix_graph(head.graph, 'embed_', rename_inputs=False, rename_outputs=False)
            graph = onnx.compose.merge_graphs(inner, tail.graph, [(inner.output[0].name, tail.graph.input[0].name)])
            onnx.save(onnx.helper.make_model(graph, opset_imports=tail.opset_import, ir_version=tail.ir_version,
                                             functions=[*head.functions, *tail.functions]), target)


class Torch:
    """Programs of ``torch.export``, run by PyTorch without this package."""

    suffix = '.pt2'
    weights = None    # each program holds its own

    @staticmethod
    def check_installed() -> None:
        """PyTorch is."""

    @staticmethod
    def save(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
        """Write a program; it has no use for names."""
        torch.export.save(program, path)

    @staticmethod
    def load(path: Path) -> Run:
        """A graph to run."""
        module = torch.export.load(path).module()

        def run(value: np.ndarray) -> list[np.ndarray]:
            with torch.no_grad():
                found = module(torch.from_numpy(value))
            return [tensor.numpy() for tensor in (found if isinstance(found, (tuple, list)) else [found])]
        return run


FORMATS = {'onnx': Onnx, 'torch': Torch}
