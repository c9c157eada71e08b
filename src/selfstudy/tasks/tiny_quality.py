"""How good the embedded tiny LM and its value model are, on validation chains."""

from __future__ import annotations

import numpy as np

from selfstudy.core.random import generator, stream_key
from selfstudy.data.chains import chain_answer, draw, replay
from selfstudy.data.splits import split_of
from selfstudy.evaluation.statistics import auc
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.value import ValueModel
from selfstudy.tasks.chain import LINE_CHARACTERS


def value_quality(
    policy: LanguageModel, value: ValueModel, steps: int, n: int, seed: int
) -> dict[str, float]:
    """Return how well the value model judges the policy's own samples on `n` validation prompts.

    "first error" is the AUC of first wrong lines against the right lines before them, a line judged by the
    value it adds; "finished" that of wrong against right whole solutions, nan where there is one kind only.
    """
    rng = generator("value-quality", seed)
    prompts = [prompt for prompt in draw(rng, 12 * n, steps)[0] if split_of(prompt) == "validation"][:n]
    requests = [
        Request(prompt=prompt, key=stream_key("value-quality", seed, i), max_tokens=LINE_CHARACTERS * steps)
        for i, prompt in enumerate(prompts)
    ]
    gains: list[float] = []
    right: list[bool] = []
    finished: list[float] = []
    solved: list[bool] = []
    for prompt, reply in zip(prompts, open_sampler(policy).sample(requests), strict=True):
        lines = tuple(reply.text.splitlines())[:steps]
        wrong = replay(prompt, lines)
        scores = value.values([(prompt, lines[: k + 1]) for k in range(len(lines))])
        finished.append(float(scores[-1]))
        solved.append(wrong is None and len(lines) == steps)
        seen = len(lines) if wrong is None else wrong + 1
        gains += np.diff(scores[:seen], prepend=0.0).tolist()
        right += [k != wrong for k in range(seen)]
    return {
        "first error": auc(gains, right),
        "lines": len(right),
        "errors": right.count(False),
        "finished": auc(finished, solved) if 0 < sum(solved) < len(solved) else float("nan"),
        "solved": sum(solved),
    }


def solve_rates(policy: LanguageModel, steps: int, n: int, temperature: float) -> dict[str, float]:
    """Return the shares of `n` validation chains with every line right, and with the answer right.

    Answers also come out right by luck: errors cancel, and products modulo 100 coincide.
    """
    pairs = [
        pair
        for pair in zip(*draw(generator("solve-rates", steps), 12 * n, steps), strict=True)
        if split_of(pair[0]) == "validation"
    ][:n]
    requests = [
        Request(
            prompt=p, key=stream_key("solve", i), max_tokens=LINE_CHARACTERS * steps, temperature=temperature
        )
        for i, (p, _) in enumerate(pairs)
    ]
    replies = open_sampler(policy).sample(requests)
    drawn = [tuple(reply.text.splitlines()) for reply in replies]
    return {
        "lines": sum(given == lines for given, (_, lines) in zip(drawn, pairs, strict=True)) / n,
        "answer": sum(
            chain_answer(prompt, given) == lines[-1][-2:]
            for given, (prompt, lines) in zip(drawn, pairs, strict=True)
        )
        / n,
    }
