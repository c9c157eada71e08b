"""`selfstudy export`: the trained encoder of a run as a file that needs no Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.saving import load
from selfstudy.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def export(directory: Path, file: Path, console: Console | None = None) -> dict[str, Any]:
    """Write the trained model of a finished run as an ONNX file; see `export_onnx`.

    Args:
        directory: of the run.
        file: to be written; an older one is replaced.
        console: where to say what was written; None is silent.

    Returns:
        "file", "bytes", "inputs" and "output" in words, "difference" (the largest, as a share of the largest
        output) and "tolerance".

    Raises:
        UsageError: there is no finished run, or its model cannot be written as ONNX.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        MachineError: the file gave other outputs than the model; it was not kept.
    """
    from selfstudy.models.encoders.onnx import TOLERANCE, export_onnx

    if file.is_dir():
        raise UsageError(f"{file} is a folder. Give the name of a file, such as {file / 'encoder.onnx'}.")
    made = export_onnx(load(directory), file)
    if console:
        inputs = ", ".join(f"{name}: {shape}" for name, shape in made.inputs.items())
        lines = [
            f"wrote     {file}, {made.size / 2**20:.2f} MiB",
            f"takes     {inputs}",
            f"gives     {made.output}",
            f"checked   by onnxruntime: differs from the model by {made.difference:.1e} of the largest "
            f"output, {TOLERANCE:.0e} is allowed",
        ]
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return {
        "file": str(file),
        "bytes": made.size,
        "inputs": made.inputs,
        "output": made.output,
        "difference": made.difference,
        "tolerance": TOLERANCE,
    }
