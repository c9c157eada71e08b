"""The index of methods: a plain table, read without importing torch or any method."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfstudy.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from selfstudy.core.method import Method


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the index."""

    slug: str
    title: str
    authors: str
    year: int
    family: str
    needs: str
    gives: str
    target: str
    """`module:Class`"""

    def load(self) -> type[Method]:
        """Import the method's class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


METHODS: dict[str, Entry] = {
    entry.slug: entry
    for entry in (
        Entry(
            slug="rest-mcts",
            title="ReST-MCTS*: LLM Self-Training via Process Reward Guided Tree Search",
            authors="Zhang, Zhoubian, Hu, Yue, Dong, Tang",
            year=2024,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a better policy, a value model, search trees",
            target="selfstudy.methods.reasoning.rest_mcts:RestMcts",
        ),
        Entry(
            slug="rest-em",
            title="ReST-EM: Beyond Human Data, Scaling Self-Training with Language Models",
            authors="Singh, Co-Reyes, Agarwal et al.",
            year=2023,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a better policy",
            target="selfstudy.methods.reasoning.rest_em:RestEm",
        ),
        Entry(
            slug="self-rewarding",
            title="Self-Rewarding Language Models",
            authors="Yuan, Pang, Cho, Li, Sukhbaatar, Xu, Weston",
            year=2024,
            family="reasoning",
            needs="a causal LM, prompts",
            gives="a better policy",
            target="selfstudy.methods.reasoning.self_rewarding:SelfRewarding",
        ),
    )
}


def find(slug: str) -> Entry:
    """Return the entry named `slug`.

    Raises:
        UsageError: there is none; suggests the nearest name.
    """
    if slug not in METHODS:
        raise UsageError(f"Unknown method {slug!r}. {nearest(slug, METHODS)}")
    return METHODS[slug]
