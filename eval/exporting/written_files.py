"""The file formats of an export: how each is written, and how it is read back to be compared with the model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from eval.exporting.programs import BATCH, TOLERANCE, Program, largest_difference
from shards.base.errors import UserError

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class ExportFormat(NamedTuple):
    """A file format."""

    suffix: str
    write: Callable[[Program, Path], None]
    read: Callable[[Path], Run]


def write_checked(program: Program, path: Path, form: ExportFormat) -> float:
    """Writes a program to a file, reads it back, and compares what it computes with what the model does.

    Args:
        program: The program.
        path: Where to write it.
        form: The format.

    Returns:
        The largest difference, as ``largest_difference`` defines it.

    Raises:
        UserError: The difference is above ``TOLERANCE``.
    """
    form.write(program, path)
    difference = largest_difference(program, form.read(path))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the exported {program.name} differs from the model by {difference:.1e}, and at most {TOLERANCE:.0e} is "
            "allowed; try --format torch_export, or other versions of torch, onnx and onnxruntime."
        )
    return difference


def require_onnx() -> None:
    """Checks that the packages of ONNX are installed.

    Raises:
        UserError: They are not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime", "onnxscript"):
            raise
        raise UserError(
            "this format needs onnx, onnxscript and onnxruntime; install: pip install 'facegen[export]'"
        ) from None


def _captured(program: Program) -> ExportedProgram:
    """The program as a graph of operators that takes any number of rows, without weights that it does not read."""
    batch = torch.export.Dim(BATCH)
    with torch.no_grad():
        captured = torch.export.export(
            program.network, program.examples, dynamic_shapes=(tuple({0: batch} for _ in program.inputs),)
        )
    placeholders = {node.name: node for node in captured.graph.nodes if node.op == "placeholder"}
    specs = captured.graph_signature.input_specs
    for spec in [spec for spec in specs if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)]:
        node = placeholders[spec.arg.name]
        if not node.users:
            captured.graph.erase_node(node)
            specs.remove(spec)
            captured.state_dict.pop(spec.target or "", None)
    captured.graph_module.recompile()
    return captured


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of their own inner workings."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write_torch(program: Program, path: Path) -> None:
    with _quiet():
        torch.export.save(_captured(program), path)


def _read_torch(path: Path) -> Run:
    network = torch.export.load(path).module()

    def run(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            return [value.numpy() for value in network(*map(torch.from_numpy, inputs))]

    return run


def _write_onnx(program: Program, path: Path) -> None:
    with _quiet():
        exported = torch.onnx.export(
            _captured(program),
            program.examples,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamic_shapes=(tuple({0: BATCH} for _ in program.inputs),),
            dynamo=True,
            verbose=False,
        )
        assert exported is not None
        exported.save(path, external_data=False)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: [np.asarray(value) for value in session.run(None, dict(zip(names, inputs, strict=True)))]


ONNX = ExportFormat(".onnx", _write_onnx, _read_onnx)
TORCH_EXPORT = ExportFormat(".pt2", _write_torch, _read_torch)
