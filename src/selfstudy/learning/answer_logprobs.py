"""Log-probabilities of given answers by the module in training, a prompt read once where that saves work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.models.language.images import Inputs
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.scoring import batches_by_length
from selfstudy.models.language.shared_prompts import Answers, answer_logits, worth_sharing
from selfstudy.models.language.training_pass import can_train

Prompted = tuple[tuple[int, ...], tuple[int, ...]] | tuple[tuple[int, ...], tuple[int, ...], Inputs]
"""(prompt, answer) as tokens, and what the module is given of the prompt's images, where it has some."""


def units_of(module: torch.nn.Module, sequences: Sequence[Prompted]) -> list[tuple[Answers, list[int]]]:
    """Return what is read as one row each, and the places of its answers among `sequences`.

    Answers to the same prompt share it where that saves work.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, (prompt, _, *images) in enumerate(sequences):
        groups.setdefault((prompt, *map(id, images)), []).append(place)
    packs = can_train(module)  # where what is not seen costs nothing
    units = []
    for places in groups.values():
        prompt, _, *images = sequences[places[0]]
        answers = [sequences[i][1] for i in places]
        if not images and (packs or worth_sharing(module, len(prompt), [len(one) for one in answers])):
            units.append((Answers(prompt, tuple(answers)), places))
        else:
            units += [(Answers(prompt, (one,), *images), [i]) for i, one in zip(places, answers, strict=True)]
    return units


def token_logprobs(
    module: torch.nn.Module, sequences: Sequence[Prompted], temperature: float = 1.0
) -> list[np.ndarray]:
    """Return the log-probabilities of the tokens of each (prompt, answer), an array for each answer.

    Computed by the module itself, as training computes them.

    Args:
        module: a causal language model.
        sequences: (prompt, answer) as tokens.
        temperature: that the logits are divided by.
    """
    found: list[np.ndarray] = [np.zeros(0)] * len(sequences)
    with Inference(module):
        units = units_of(module, sequences)
        for batch in batches_by_length([unit.length for unit, _ in units]):
            part = [units[i] for i in batch]
            logits, tokens, _ = answer_logits(module, [unit for unit, _ in part])
            scores = logits.flatten(0, 1) / temperature
            logp = -F.cross_entropy(scores, tokens.flatten(), reduction="none").view_as(tokens)
            places = [place for _, some in part for place in some]
            for place, values in zip(places, logp.float().cpu().numpy(), strict=True):
                found[place] = values[: len(sequences[place][1])].copy()
    return found
