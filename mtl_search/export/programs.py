"""The model as a program: ``model.pt2`` from torch.export and ``model.onnx``, any number of rows each.

Both take encoded rows, the outputs of `input_kinds.encoding.encode`, and give one tensor per task. The MLflow model
wraps the first of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from mtl_search.errors import MtlSearchError
from mtl_search.export.champion import Champion
from mtl_search.export.failure import explain_failure
from mtl_search.input_kinds.encoding import Encoded, parts_of

PT2_FILE, ONNX_FILE = "model.pt2", "model.onnx"
_INLINE_LIMIT = 2**30  # bytes; an ONNX file (protobuf) ends at 2 GiB, so larger weights lie beside it

Program = Callable[[Encoded], tuple[np.ndarray, ...]]


def input_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the encoded inputs, in order."""
    return tuple(kind.tensor for kind, _ in parts_of(spec))


def output_names(tasks: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Names of an ONNX file's outputs: the tasks'; of a task that is named like an input ``<task>.output``."""
    return [f"{task}.output" if task in inputs else task for task in tasks]


def trace(champion: Champion) -> ExportedProgram:
    """The deployed model as a program for any number of rows from 1 up.

    Raises:
        ExportError: The backbone does something that torch.export cannot follow.
    """
    # Two rows at least: tracing takes a size of one for a constant.
    encoded = tuple(np.concatenate([part, part])[:8] for part in champion.encode(champion.sample))
    rows = Dim("rows", min=1)
    with explain_failure("torch.export cannot take this model: its backbone must work for any number of rows"):
        return torch.export.export(
            champion.deployed,
            tuple(torch.from_numpy(part) for part in encoded),
            dynamic_shapes={"encoded": tuple({0: rows} for _ in encoded)},
        )


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a program as a ``.pt2`` archive.

    Raises:
        ExportError: It cannot be written.
    """
    with explain_failure(f"cannot write {path.name}"):
        torch.export.save(program, path)


def require_onnx() -> None:
    """Check that the optional packages are there, before anything is computed.

    Raises:
        MtlSearchError: One is not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            rule = "the format onnx needs packages that are not installed"
            raise MtlSearchError(f"{rule} ({error}): pip install 'mtl_search[onnx]'") from error


def write_onnx(program: ExportedProgram, champion: Champion, path: Path) -> None:
    """Write a program as ONNX; inputs as `input_names`, outputs as `output_names`.

    Raises:
        ExportError: The program has an operator that ONNX lacks.
    """
    inputs = input_names(champion.preparation.spec)
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    outputs = output_names([task.name for task in champion.tasks], inputs)
    with explain_failure("the ONNX exporter cannot take this model"):
        exported = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
        assert exported is not None
        for node in exported.model.graph.all_nodes():  # the exporter's own names, such as `linear`, may be tasks' too
            for value in node.outputs:
                if value.name in outputs and not value.is_graph_output():
                    value.name = f"{value.name}.inner"
        exported.save(path, external_data=weights > _INLINE_LIMIT)


def open_pt2(path: Path) -> Program:
    """Load ``model.pt2`` the way another program does; of this process's own making, since loading one runs code."""
    with explain_failure(f"cannot load {path.name}"):
        module = torch.export.load(path).module()

    def run(encoded: Encoded) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            return tuple(output.numpy() for output in module(*(torch.from_numpy(part) for part in encoded)))

    return run


def open_onnx(path: Path, inputs: Sequence[str]) -> Program:
    """Load ``model.onnx``, whose inputs have these names, into ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it writes to the process's stderr, past Python
    with explain_failure(f"cannot load {path.name}"):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # By name: an input of no columns is dropped from the graph.
    names = [entry.name for entry in session.get_inputs()]

    def run(encoded: Encoded) -> tuple[np.ndarray, ...]:
        given = dict(zip(inputs, encoded, strict=True))
        return tuple(session.run(None, {name: given[name] for name in names}))

    return run
