"""Fine-tuning on tokens as drawn, looks on the way, and the bonus for exploration of preferences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Budget
from selfstudy.learning.fine_tuning import Example, FineTuning, Watch, fine_tune
from selfstudy.learning.preference_losses import squared_loss
from selfstudy.learning.preferences import Pair, Preference, prefer
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import pair_tokens, sequence_logprobs
from selfstudy.models.language.tiny import random_tiny_model

EXAMPLES = [Example(f"{i}+1:", f"{i + 1}\n") for i in range(7)]
SETTINGS = FineTuning(steps=6, learning_rate=1e-2, batch=3)


def weights(model: LanguageModel) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.module.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def test_tokens_as_drawn_stay_as_they_are() -> None:
    """Oracle: the tokens of the texts by hand; the end token follows texts alone."""
    model = random_tiny_model(1, 32, vocabulary="ab", end=True)
    rows = pair_tokens(model, [("a", "ba"), ("ab", (1, 1)), ("b", ())], end=True)
    assert rows == [([0, 1, 0, 2], 1), ([0, 1, 1, 1], 2), ([1], 1)]


def test_tokens_and_texts_train_the_same(open_run) -> None:
    """Oracle: the same examples as texts, without an end token: equal weights, bit for bit."""
    model = random_tiny_model(1, 32)
    drawn = [Example(e.prompt, tuple(model.encode(str(e.completion)))) for e in EXAMPLES]
    first, second = (
        fine_tune(model, examples, SETTINGS, open_run(name), "sft")
        for name, examples in (("texts", EXAMPLES), ("tokens", drawn))
    )
    assert same(weights(first), weights(second))


def watched(seen: list[list[torch.Tensor]], figures: list[float]) -> Watch:
    """Looks that note the weights and give these figures, by how often they looked in this run."""

    def figure(policy: LanguageModel) -> float:
        assert not policy.module.training
        seen.append(weights(policy))
        return figures[len(seen) - 1]

    return Watch(3, figure)


def test_the_best_look_is_kept(open_run) -> None:
    """Oracle: figures by hand: the second look is best; training is what it is without looks."""
    seen: list[list[torch.Tensor]] = []
    model = random_tiny_model(1, 32)
    kept = fine_tune(model, EXAMPLES, SETTINGS, open_run("a"), "sft", watch=watched(seen, [0.1, 0.7, 0.5]))
    plain = fine_tune(model, EXAMPLES, SETTINGS, open_run("b"), "sft")
    assert same(weights(kept), seen[1]) and not same(seen[1], seen[2])
    assert same(weights(plain), seen[2])


@pytest.mark.parametrize("rank", [None, 2])
def test_looks_survive_a_cut(rank: int | None, open_run) -> None:
    """Oracle: the uninterrupted run, bit for bit; the best look was before the cut."""
    settings = FineTuning(steps=6, learning_rate=1e-2, batch=3, lora_rank=rank)
    model = random_tiny_model(1, 32)
    figures = {2: 0.9, 4: 0.2, 6: 0.1}

    def train(run, cut: int | None):

        def figure(policy: LanguageModel) -> float:
            place = max((line["step"] for line in run.metrics()), default=0) + 1
            if place == cut:
                raise KeyboardInterrupt
            return figures[place]

        return fine_tune(model, EXAMPLES, settings, run, "sft", watch=Watch(3, figure))

    whole = train(open_run("whole"), None)
    with pytest.raises(KeyboardInterrupt):
        train(open_run("cut"), 4)
    resumed = train(open_run("cut"), None)
    assert same(weights(whole), weights(resumed))


def test_a_budget_that_ends_in_a_look(open_run) -> None:
    """Oracle: the look before it: its weights come out, and nothing is raised."""
    seen: list[list[torch.Tensor]] = []
    run = open_run("short", budget=Budget(generated_tokens=5))

    def figure(policy: LanguageModel) -> float:
        run.meter.charge(generated_tokens=4)
        seen.append(weights(policy))
        return 0.5

    tuned = fine_tune(random_tiny_model(1, 32), EXAMPLES, SETTINGS, run, "sft", watch=Watch(3, figure))
    assert len(seen) == 1 and same(weights(tuned), seen[0])


def test_optimism_adds_the_likelihood_of_the_reference_answers(open_run) -> None:
    """Oracle: the first logged loss by hand: squares of the targets, for margins are 0, plus the bonus."""
    model = random_tiny_model(1, 32)
    pairs = [Pair(f"{i}+1:", f"{i + 1}\n", f"{i}\n", 0.5 * i) for i in range(4)]
    run = open_run()
    settings = Preference(steps=1, batch=4, beta=0.3, optimism=0.2)
    prefer(model, pairs, settings, run, "policy", loss=squared_loss)
    (entry,) = run.metrics()
    likely = np.mean(sequence_logprobs(model, [(p.prompt, p.rejected) for p in pairs]))
    squares = np.mean([(0.5 * i) ** 2 for i in range(4)])
    assert entry["loss"] == pytest.approx(squares + 0.2 * likely, rel=1e-4)
