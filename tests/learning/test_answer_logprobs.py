"""Which answers are read together, and how likely they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.learning.answer_logprobs import token_logprobs, units_of
from selfstudy.models.language.tiny import random_tiny_model

LONG, OTHER = (1,) * 200, (2,) * 200
SEQUENCES = [((3, 4), LONG), ((5,), (6, 7)), ((3, 4), OTHER), ((3, 4), (8,))]


@pytest.fixture(autouse=True)
def one_thread():
    """With more threads than a few, transformers' module is trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_answers_share_their_prompt_where_that_saves_work() -> None:
    """Oracle: a compiled pass, which takes no time for what is not seen; a masked row of 400 tokens does."""
    module = random_tiny_model(1, 32).module
    assert [places for _, places in units_of(module, SEQUENCES)] == [[0, 2, 3], [1]]
    module.base_model.norm.weight.requires_grad_(False)
    assert [places for _, places in units_of(module, SEQUENCES)] == [[0], [2], [3], [1]]


def test_log_probabilities() -> None:
    """Oracle: each answer alone, by transformers' module."""
    module = random_tiny_model(2, 32).module
    found = token_logprobs(module, SEQUENCES, 0.5)
    for (prompt, answer), ours in zip(SEQUENCES, found, strict=True):
        logits = module(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        alone = (logits / 0.5).log_softmax(-1)[range(len(answer)), list(answer)]
        np.testing.assert_allclose(ours, alone.detach().numpy(), atol=1e-5)
