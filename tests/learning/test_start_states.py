"""Start states of ReST-GRPO: which problems are kept, and which beginnings are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.start_states import (
    Assembly,
    Sampled,
    Start,
    assemble,
    beginnings,
    spread,
    start_texts,
)
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.tasks.list_programs import program_model

LINES = ("a", "b", "c", "d")


def sampled(name: str, rewards: list[float]) -> Sampled:
    return Sampled(name, [(*LINES, str(i)) for i in range(len(rewards))], rewards)


def rng(name: str) -> np.random.Generator:
    return np.random.default_rng(7)


def test_problems_whose_rewards_hardly_differ_are_dropped() -> None:
    """Oracle: the standard deviations 0.5, 0 and 0.01 against the limit 0.05."""
    samples = [sampled("kept", [0, 0, 1, 1]), sampled("solved", [1] * 4), sampled("alike", [0.5, 0.52])]
    assert {start.problem for start in assemble(samples, Assembly(), rng)} == {"kept"}


def test_the_spread_is_that_of_the_population() -> None:
    """Oracle: rewards 0.45 and 0.55 deviate by 0.05 in the population, by 0.071 in the sample."""
    samples = [sampled("at the limit", [0.45, 0.55])]
    assert spread(np.array([[0.45, 0.55], [0, 1]])) == pytest.approx(0.275)
    assert assemble(samples, Assembly(least_spread=0.049), rng) == [Start("at the limit")]
    with pytest.raises(DataError):
        assemble(samples, Assembly(least_spread=0.06), rng)


def test_four_lines_and_a_ratio_of_a_half_give_two_beginnings_of_the_best() -> None:
    """Oracle: ceil(0.5 * 4) beginnings of the first answer with the highest reward, beside the problem."""
    solutions = [("z",), LINES, ("y", "y")]
    found = assemble([Sampled("p", solutions, [0.0, 1.0, 1.0])], Assembly(), rng)
    assert found[0] == Start("p")
    assert len(found) == 3
    assert all(start.solution == LINES and 1 <= start.begun <= 4 for start in found[1:])
    assert len(assemble([Sampled("p", [("z",), (*LINES, "e")], [0, 1])], Assembly(), rng)) == 4


def test_a_best_answer_below_the_least_reward_gives_no_beginnings() -> None:
    """Oracle: 0.8 is below 0.9, 0.9 is not."""
    assert assemble([sampled("p", [0.0, 0.8])], Assembly(), rng) == [Start("p")]
    assert len(assemble([sampled("p", [0.0, 0.9])], Assembly(), rng)) == 1 + 3


def test_beginnings_are_drawn_by_powers_of_alpha() -> None:
    """Oracle: alpha^(i-1) / sum over 40,000 draws, within 1 percent."""
    drawn = beginnings(4, Assembly(count=40_000), np.random.default_rng(0))
    weights = 0.95 ** np.arange(4)
    shares = np.bincount(drawn, minlength=5)[1:] / 40_000
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)


def test_beginnings_drawn_twice_stand_there_twice() -> None:
    """Oracle: 40 draws of 2 lines, counted."""
    found = assemble([Sampled("p", [("z",), ("a", "b")], [0, 1])], Assembly(count=40), rng)
    assert len(found) == 41


def test_all_and_no_beginnings() -> None:
    """Oracle: every line once, or none."""
    assert beginnings(3, Assembly(starts="all"), rng("")) == [1, 2, 3]
    assert beginnings(3, Assembly(starts="none"), rng("")) == []


@given(st.integers(1, 30), st.floats(0.01, 1), st.floats(0.5, 1), st.integers(0, 5))
def test_as_many_beginnings_as_the_ratio_says(lines: int, ratio: float, decay: float, seed: int) -> None:
    """Oracle: the ceiling of ratio times lines; each beginning has from 1 to all lines."""
    drawn = beginnings(lines, Assembly(ratio=ratio, decay=decay), np.random.default_rng(seed))
    assert len(drawn) == int(np.ceil(ratio * lines))
    assert all(1 <= i <= lines for i in drawn)


def test_nothing_to_learn_from_is_refused_with_a_histogram() -> None:
    """Oracle: means 0 and 1 fall into the first and the last tenth."""
    samples = [sampled("a", [0, 0]), sampled("b", [0, 0]), sampled("c", [1, 1])]
    with pytest.raises(DataError, match=r"2 from 0\.0 to 0\.1, 1 from 0\.9 to 1\.0.*temperature"):
        assemble(samples, Assembly(), rng)


@pytest.mark.parametrize("reward", [1.5, -0.1, float("nan")])
def test_rewards_out_of_range_are_refused(reward: float) -> None:
    """Oracle: what is outside [0, 1] would be hidden by the value model's clamp."""
    with pytest.raises(DataError, match="from 0 to 1"):
        assemble([sampled("p", [0.0, reward])], Assembly(), rng)


@pytest.mark.parametrize("field", [{"samples": 1}, {"ratio": 0.0}, {"decay": 0.0}, {"least_reward": 2.0}])
def test_settings_out_of_range_are_refused(field: dict) -> None:
    """Oracle: the class says what is allowed."""
    with pytest.raises(UsageError):
        Assembly(**field).validate()


def test_a_text_ends_with_a_line_break_and_leaves_room() -> None:
    """Oracle: a tokenizer of characters, where every text's tokens begin those of a longer one."""
    model = random_tiny_model(layers=1, width=16, context=12)
    starts = [Start("p"), Start("p", ("12", "34"), 1), Start("p", ("12", "34567"), 2)]
    texts = start_texts(model, ["1+1:"] * 3, starts)
    assert texts == ["1+1:", "1+1:12\n", None]
    assert start_texts(model, ["1" * 12], [Start("p")]) == [None]


def test_a_text_is_never_cut_inside_a_token() -> None:
    """Oracle: a tokenizer that takes a line break and the blanks after it as one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = random_tiny_model(layers=1, width=16)
    words = {word: i for i, word in enumerate(("p", "a", "b", "\n", "\n  "))}
    tokenizer = Tokenizer(models.WordLevel(words))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n *|\S"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    model.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=99)
    starts = [Start("p", ("a", "  b"), 1), Start("p", ("a", "b"), 1), Start("p", ("a", "  b"), 2)]
    assert start_texts(model, ["p"] * 3, starts) == ["pa", "pa\n", "pa\n  b\n"]


def test_a_tokenizer_of_whole_lines_is_never_given_half_a_line() -> None:
    """Oracle: a line without its line break is no token of this model, so asking for one would raise."""
    model = program_model(layers=1, width=16)
    lines = ("x = x[1:]", "return x")
    texts = start_texts(model, ["3 1 -> 1\n"] * 2, [Start("p"), Start("p", lines, 1)])
    assert texts == ["3 1 -> 1\n", "3 1 -> 1\nx = x[1:]\n"]
