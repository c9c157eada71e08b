"""Answers that share the reading of their prompt, against each read alone."""

from __future__ import annotations

import pytest
import torch

from selfstudy.models.language.shared_prompts import KINDS, Answers, answer_logits, worth_sharing
from selfstudy.models.language.tiny import random_tiny_model

from .random_models import SETTINGS, random_module

UNITS = (
    Answers((4, 7, 10, 8), ((1, 2, 3), (9,), (5, 6, 7, 8, 1))),
    Answers((3, 11), ((2, 2),)),
    Answers((5, 1, 10, 2, 14), ((1,), (1, 12))),
)


def test_known_kinds_are_those_of_the_random_models() -> None:
    """Oracle: every kind is covered by the test below."""
    assert set(KINDS) <= {name.partition("-")[0] for name in SETTINGS}


@pytest.mark.parametrize(
    "kind", [name for name in SETTINGS if name.partition("-")[0] in KINDS and "window" not in name]
)
def test_logits_and_gradients_are_those_of_answers_alone(kind: str) -> None:
    """Oracle: each prompt with one answer by itself, without padding; gradients of a weighted sum as well."""
    module = random_module(kind, **({"sliding_window": 64} if kind == "gemma3_text" else {}))
    logits, tokens, counted = answer_logits(module, UNITS)
    alone = [(unit.prompt, one) for unit in UNITS for one in unit.answers]
    plain = torch.zeros(())
    for row, (prompt, one) in enumerate(alone):
        whole = module(torch.tensor([[*prompt, *one]])).logits[0, len(prompt) - 1 : -1]
        assert tokens[row][counted[row]].tolist() == list(one)
        torch.testing.assert_close(logits[row][counted[row]], whole, atol=2e-5, rtol=1e-4)
        plain = plain + (row + 1) * whole.log_softmax(-1)[range(len(one)), list(one)].sum()
    ours = torch.zeros(())
    for row, (_, one) in enumerate(alone):
        ours = ours + (row + 1) * logits[row].log_softmax(-1)[range(len(one)), list(one)].sum()
    found = [
        torch.autograd.grad(loss, list(module.parameters()), allow_unused=True) for loss in (ours, plain)
    ]
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_when_it_is_worth_it() -> None:
    """Oracle: long prompts with short answers share, short ones and single answers do not, as was timed."""
    module = random_tiny_model(1, 128).module
    assert worth_sharing(module, 183, [32] * 8)
    assert worth_sharing(module, 11, [24] * 8)
    assert not worth_sharing(module, 11, [48] * 8)
    assert not worth_sharing(module, 40, [100] * 8)
    assert not worth_sharing(module, 11, [32] * 8)
    assert not worth_sharing(module, 500, [32])


def test_windows_are_respected() -> None:
    """Oracle: a row longer than what a layer looks back never shares."""
    module = random_module("mistral-window")
    assert not worth_sharing(module, 400, [4] * 8)
