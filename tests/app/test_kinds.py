"""Methods refuse tasks and models of another kind, with real ones of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.index import METHODS

CHAINS = "chain100?steps=1&train=1&validation=0&test=1"
OTHERS = {
    "icl-gd": ("cooccurrence", "attention-decoder"),
    "one-step-gd": (CHAINS, "tiny-lm"),
    "gpicl": ("arrays", "linear-attention"),
    "scan-and-snap": ("in-context-regression", "sequence-lstm"),
    "self-sorting": ("in-context-regression", "linear-attention"),
    "barlow-twins": ("arrays", "linear-attention"),
    "isogclr": ("cooccurrence", "top-down-bubble"),
    "sla": (CHAINS, "sequence-lstm"),
    "efficient-train": (CHAINS, "gcn"),
    "ps-kd": (CHAINS, "sequence-lstm"),
    "guided-self-distillation": ("cooccurrence", "gcn"),
    "lion": (CHAINS, "gcn"),
    "infinite-lr": ("digits", "conv"),
    "pruning-distillation": (CHAINS, "gcn"),
    "self-distilled-pretraining": (CHAINS, "gcn"),
    "algoperf": (CHAINS, "gcn"),
    "mixed-barlow-twins": ("in-context-regression", "sequence-lstm"),
    "pseudo-label-pretraining": (CHAINS, "gcn"),
    "gcool": ("digits", "conv"),
    "learning-curves": ("cooccurrence", "gcn"),
    "hast": (CHAINS, "gcn"),
    "aspl": ("digits", "gcn"),
    "t-jepa": ("digits?labels=20", "conv"),
    "web-noise": ("digits", "gcn"),
    "transductive-clustering": ("digits", "gcn"),
    "loki": ("pool:digits?labels=20", "sequence-lstm"),
    "trice": ("cooccurrence", "conv"),
    "grpo": ("digits", "gcn"),
    "dno": ("in-context-regression", "sequence-lstm"),
    "mm-upt": ("digits", "conv"),
    "rest-em": ("arrays", "top-down-bubble"),
    "guide": ("cooccurrence", "gcn"),
    "rest-rl": ("digits", "attention-decoder"),
    "rest-mcts": ("cooccurrence", "attention-decoder"),
    "sharpening": ("digits", "linear-attention"),
    "astro": ("arrays", "sequence-lstm"),
    "self-rewarding": ("projected-images", "sequence-transformer"),
}


@pytest.mark.parametrize("slug", METHODS)
def test_another_kind_is_refused(slug: str, tmp_path: Path) -> None:
    """Oracle: the index's own task and model with one of another kind; nothing is written."""
    entry = METHODS[slug]
    task, model = OTHERS[slug]
    for wrong in ({"task": task, "model": entry.model}, {"task": entry.task or CHAINS, "model": model}):
        with pytest.raises(UsageError, match="cannot work on the task") as said:
            selfstudy.fit(slug, **wrong, out=tmp_path / "run")
        assert entry.needs in str(said.value) and entry.task in str(said.value)
        assert not (tmp_path / "run").exists()
