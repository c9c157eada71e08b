"""How a text encoder makes one vector of a text, in the files of sentence-transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from selfstudy.core.errors import UsageError
from selfstudy.core.files import write_json
from selfstudy.models.encoders.pretrained import explained
from selfstudy.models.encoders.pretrained_texts import ADVICE, WHAT

MEAN, CLS = "mean", "cls"
POOLINGS = (MEAN, CLS)
# The names of the kinds of pooling in folders of version 5 and before.
_OLD_POOLINGS = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": CLS}
_MODULES, _TRANSFORMER = "modules.json", "sentence_bert_config.json"
_POOLING, _NORMALISE = "1_Pooling", "2_Normalize"
_PROMPTS = "config_sentence_transformers.json"


@dataclass(frozen=True, kw_only=True)
class SentenceLayout:
    """How features are made of the last layer of a network.

    Attributes:
        pooling: "mean" over the tokens of a text, or "cls", the first token.
        normalised: features have length 1.
        length: tokens of a text that are read; 0 where the files do not say.
    """

    pooling: str = MEAN
    normalised: bool = False
    length: int = 0


class SentenceFiles(NamedTuple):
    """What the files of a model say.

    Attributes:
        layout: behind the network.
        subfolder: in which network and tokenizer lie.
        lower: whether texts are put into lower case.
        prefix: what is put before every text.
    """

    layout: SentenceLayout
    subfolder: str
    lower: bool
    prefix: str


def read_layout(name: str, pooling: str = "") -> SentenceFiles:
    """Return what the files of a model on the hub or in a folder say; without any it takes the mean.

    Args:
        name: hub id or folder.
        pooling: "mean" or "cls" instead of what the files say; modules after the network are then left out.

    Raises:
        UsageError: the files ask for something else.
    """
    modules = _json(name, _MODULES) or []
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module.get("path", "") for module in modules}
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown and not pooling:
        raise UsageError(
            f"{name!r} has a module {unknown[0]!r} after its network, which is not read. Give pooling=mean "
            "or pooling=cls for the features of its network alone."
        )
    subfolder = kinds.get("Transformer", "")
    said = _json(name, f"{subfolder}/{_TRANSFORMER}".lstrip("/")) or {}
    prompts = _json(name, _PROMPTS) or {}
    layout = SentenceLayout(
        pooling=pooling or _pooling(name, kinds.get("Pooling", _POOLING)),
        normalised="Normalize" in kinds and not unknown,
        length=int(said.get("max_seq_length") or 0),
    )
    prefix = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"), "")
    return SentenceFiles(layout, subfolder, bool(said.get("do_lower_case")), prefix)


def write_layout(folder: Path, layout: SentenceLayout, width: int) -> None:
    """Write the files that sentence-transformers reads beside a network and its tokenizer."""
    kinds = {"Transformer": "", "Pooling": _POOLING}
    if layout.normalised:
        kinds["Normalize"] = _NORMALISE
        (folder / _NORMALISE).mkdir(exist_ok=True)
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(kinds.items())
    ]
    write_json(folder / _MODULES, modules)
    modes = {old: layout.pooling == new for old, new in _OLD_POOLINGS.items()}
    write_json(folder / _POOLING / "config.json", {"word_embedding_dimension": width, **modes})
    write_json(folder / _TRANSFORMER, {"max_seq_length": layout.length, "do_lower_case": False})


def _pooling(name: str, path: str) -> str:
    said = _json(name, f"{path}/config.json")
    if said is None:
        return MEAN
    old = {mode: on for mode, on in said.items() if mode.startswith("pooling_mode_")}
    asked = [_OLD_POOLINGS.get(mode, mode) for mode, on in old.items() if on]
    new = said.get("pooling_mode", MEAN)
    asked = asked or (new if isinstance(new, list) else [new])
    if len(asked) != 1 or asked[0] not in POOLINGS:
        raise UsageError(
            f"{name!r} pools its tokens by {asked}, which is not read. Give pooling=mean or pooling=cls, and "
            "look whether its features are still good."
        )
    return asked[0]


def _json(name: str, file: str) -> Any:
    """Return a JSON file of a model, or None where it has none."""
    from transformers.utils import cached_file

    # Where the hub cannot be asked, that is an error: without these files the features would be others.
    with explained(name, WHAT, ADVICE):
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The file {file} of {name!r} cannot be read ({error}).") from error
