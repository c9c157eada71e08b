"""Encoders as ONNX files: from images as bytes to features, without Python, and compared with the encoder."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import MachineError, MissingExtra, UsageError
from selfstudy.core.files import write_whole
from selfstudy.models.encoders.onnx_plans import Plan, plan_of

TOLERANCE = 1e-4  # largest difference, as a share of the largest output
BATCHES = (1, 3, 16)  # rows that the file is compared on
TINY = 1e-12  # a largest output below it is none
LARGEST = 2**31 - 2**24  # bytes of weights: what a file of protocol buffers holds, less the rest of it
OPSET = 18  # the first with a Resize that smooths where it shrinks


@dataclass(frozen=True)
class Exported:
    """What an ONNX file takes and gives.

    Attributes:
        path: of the file.
        size: in bytes.
        inputs: name -> type and shape, in words.
        output: its name and shape, in words.
        difference: the largest from the model's own output, as a share of the largest output.
    """

    path: Path
    size: int
    inputs: dict[str, str]
    output: str
    difference: float


def export_onnx(model: Any, path: Path | str) -> Exported:
    """Write a model as one ONNX file, with its preprocessing inside, for any number of inputs at once.

    An image encoder takes `images`, uint8 [N, H, W, C], and gives `features` [N, width]. A classifier gives
    `scores` [N, classes], whose softmax is the probability; the names of the classes are in the metadata of
    the file. A tabular encoder takes what its `rows` returns: `numbers` [N, D_n], float32, and `codes`
    [N, D_c], int64; the names of its columns are in the metadata.

    The file is run by onnxruntime on drawn inputs, and kept where no output differs from the model's own by
    more than 1e-4 of the largest.

    Args:
        model: an `ImageEncoder`, an `ImageClassifier` or a `TabularTransformer`.
        path: of the file; it appears whole or not at all.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        UsageError: the model is of another kind, or its operations cannot be written.
        MachineError: the outputs differ by more.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _need(package)
    plan, path, found = plan_of(model), Path(path), [0.0]
    size = sum(weight.nbytes for weight in plan.module.state_dict().values())
    if size > LARGEST:
        raise UsageError(
            f"The model has {size / 2**30:.1f} GiB of weights; one ONNX file holds less than 2. The weights "
            "are in the run's folder as safetensors."
        )

    def write(temporary: Path) -> None:
        _write(plan, temporary)
        found[0] = _difference(plan, temporary)

    write_whole(path, write)
    return Exported(path, path.stat().st_size, plan.inputs, plan.output, found[0])


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtra(package, "onnx") from None


def _write(plan: Plan, path: Path) -> None:
    from torch.export import Dim

    onnx = _need("onnx")
    rows = Dim("N")
    shapes = tuple({0: rows} for _ in plan.inputs)
    module = plan.module.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                plan.draw(BATCHES[1]),
                input_names=list(plan.inputs),
                output_names=[plan.output.partition(":")[0]],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UsageError(f"The model cannot be written as ONNX: {str(error).splitlines()[0]}") from error
    assert program is not None  # it is None only where the exporter writes the file itself
    written = program.model_proto
    for node in written.graph.node:  # where in this machine's files each came from
        del node.metadata_props[:]
    onnx.helper.set_model_props(written, plan.notes)
    onnx.save(written, str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    log.setLevel(level)


def _difference(plan: Plan, path: Path) -> float:
    """Return the largest difference between the file's output and the model's, as a share of the largest.

    Raises:
        MachineError: it is above the tolerance.
    """
    worst = 0.0
    for count in BATCHES:
        drawn = plan.draw(count)
        with torch.no_grad():
            truth = plan.truth(*drawn).float().numpy()
        found = _run(path, dict(zip(plan.inputs, (tensor.numpy() for tensor in drawn), strict=True)))
        share = np.abs(found - truth).max() / max(np.abs(truth).max(), TINY)
        worst = max(worst, float(share)) if np.isfinite(share) else np.inf
    if worst > TOLERANCE:
        raise MachineError(
            f"The ONNX file gives other outputs than the model: they differ by {worst:.1e} of the largest, "
            f"and {TOLERANCE:.0e} is allowed. Nothing was kept. Try other versions of onnxruntime and torch."
        )
    return worst


def _run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    runtime = _need("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, inputs)[0]
    except Exception as error:  # onnxruntime has an exception of its own for each kind of failure
        raise MachineError(
            f"onnxruntime cannot run the file that was written, which was not kept: {error}"
        ) from error
