"""Every method in the index keeps every contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from selfstudy.core.index import METHODS, find
from selfstudy.core.method import Method

from . import checks
from .smallest import SMALLEST, Smallest, smallest

CONTRACTS: tuple[Callable[[type[Method], Smallest, Path], None], ...] = (
    checks.check_learns,
    checks.check_deterministic,
    checks.check_resumes,
    checks.check_budget,
    checks.check_hidden_labels,
    checks.check_refuses,
    checks.check_saves,
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.mark.parametrize("slug", METHODS)
def test_the_method_is_described(slug: str) -> None:
    """Oracle: the index's authors and year, the syntax tree of the class."""
    method = find(slug).load()
    assert issubclass(method, Method)
    checks.check_described(method, METHODS[slug])


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("slug", sorted({*METHODS, *SMALLEST}))
def test_the_method_keeps(
    contract: Callable[[type[Method], Smallest, Path], None], slug: str, tmp_path: Path
) -> None:
    """Oracle: in the contract's own line, in checks.py."""
    contract(find(slug).load(), smallest(slug), tmp_path)
