"""Loki's rule: closed forms, the bias-variance identity, ties, invariances, blocks, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.labels import rule as module
from selfstudy.models.labels.building import edges_space, embedding_space, matrix_space
from selfstudy.models.labels.rule import LokiRule, numbers_of
from selfstudy.models.labels.spaces import AnySpace

LINE = embedding_space(np.arange(10.0)[:, None])


def drawn(items: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), items)


def spaces(seed: int = 0) -> dict[str, AnySpace]:
    """One of each kind, with 12 labels."""
    random = np.random.default_rng(seed)
    parents = np.array([[random.integers(node), node] for node in range(1, 12)])
    ring = np.stack([np.arange(12), (np.arange(12) + 1) % 12], 1)
    points = random.standard_normal((12, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return {
        "tree": edges_space(parents, random.uniform(0.5, 2, 11)),
        "graph": edges_space(ring, random.uniform(0.5, 2, 12)),
        "embeddings": embedding_space(points),
        "cosine": embedding_space(points, between="cosine"),
        "matrix": matrix_space((distances + distances.T) / 2),
    }


def by_hand(space: AnySpace, observed: list[int], p: np.ndarray, exponent: int = 2) -> np.ndarray:
    """Costs [B, N] from the whole square of distances, by plain loops over labels."""
    square = space.distances(np.arange(len(space.names)))
    return np.stack(
        [
            sum(p[:, i] * square[y, label] ** exponent for i, label in enumerate(observed))
            for y in range(len(square))
        ],
        1,
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8))
def test_complete_graph_is_argmax(seed: int, count: int) -> None:
    """Oracle: where all labels are equally far, the least cost is 1 - max p."""
    space = matrix_space(1 - np.eye(10))
    observed = np.random.default_rng(seed).permutation(10)[:count]
    p = drawn(5, count, seed)
    assert (LokiRule(space, observed).predict(p) == observed[p.argmax(1)]).all()


def test_a_line_with_its_ends_observed() -> None:
    """Oracle: the label is 9 p_9, rounded; ties go to the observed one, else to the lower."""
    p9 = np.linspace(0, 1, 181)
    found = LokiRule(LINE, [0, 9]).predict(np.stack([1 - p9, p9], 1))
    tied = np.isclose(9 * p9 % 1, 0.5)
    wanted = np.where(9 * p9 > 8, np.floor(9 * p9 + 0.5), np.ceil(9 * p9 - 0.5))
    assert tied.sum() == 9 and found[tied].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert (found[~tied] == wanted[~tied]).all()


def test_ties() -> None:
    """Oracle: of equal costs an observed label, then the more probable one, then the smaller number."""
    # Medians between two labels of a line cost the same everywhere between them.
    rule = LokiRule(LINE, [7, 2], exponent=1)
    assert rule.predict(np.array([[0.5, 0.5]]))[0] == 2
    assert rule.top(np.array([[0.5, 0.5]]), 4).tolist() == [[2, 7, 3, 4]]
    star = edges_space(np.array([[0, 1], [0, 2], [0, 3], [0, 4]]))
    # Leaves 3 and 4 and the middle: the probable one of two leaves as costly as the middle.
    assert LokiRule(star, [4, 3], exponent=1).predict(np.array([[0.5, 0.5]]))[0] == 3
    # Neither is observed: of 1 and 2, both between 0 and 3 with equal weights, the smaller.
    assert LokiRule(embedding_space(np.arange(4.0)[:, None]), [0, 3]).predict(np.array([[0.5, 0.5]]))[0] == 1
    # A label twice in the embeddings, one of the two observed.
    twice = embedding_space(np.array([[0.0], [5.0], [5.0]]))
    assert LokiRule(twice, [0, 2]).predict(np.array([[0.0, 1.0]]))[0] == 2


def test_ties_hold_in_spite_of_rounding() -> None:
    """Oracle: lengths of 0.1 add up to what is not exactly 0.3; a tie is one all the same."""
    path = edges_space(np.array([[0, 1], [1, 2], [2, 3]]), np.full(3, 0.1))
    rule = LokiRule(path, [3, 0])
    assert rule.predict(np.array([[0.5, 0.5]]))[0] == 1
    assert LokiRule(path, [0, 3]).predict(np.array([[0.5, 0.5]]))[0] == 1


@pytest.mark.parametrize("kind", ["tree", "graph", "embeddings", "cosine", "matrix"])
@pytest.mark.parametrize("exponent", [1, 2])
def test_every_kind_of_space(kind: str, exponent: Any) -> None:
    """Oracle: costs by plain loops over the square of distances; sure probabilities give their own label."""
    space, observed = spaces()[kind], [7, 1, 4, 10]
    rule, p = LokiRule(space, observed, exponent=exponent), drawn(50, 4)
    costs = by_hand(space, observed, p, exponent)
    assert np.allclose(rule.scores(p), -costs)
    assert (rule.predict(p) == costs.argmin(1)).all()
    assert (rule.top(p, 12) == np.argsort(costs, axis=1, kind="stable")).all() or exponent == 1
    assert (rule.restricted(p) == np.array(observed)[costs[:, observed].argmin(1)]).all()
    assert (rule.most_probable(p) == np.array(observed)[p.argmax(1)]).all()
    assert rule.medoid() == by_hand(space, observed, np.full((1, 4), 0.25), exponent).argmin()
    assert rule.predict(np.eye(4)).tolist() == observed


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-4, 1e4))
def test_scale_and_order_of_labels(seed: int, scale: float) -> None:
    """Oracle: distances times a number change nothing; labels in another order give the same ones by name."""
    space = spaces(seed)["matrix"]
    p, observed = drawn(6, 4, seed), np.random.default_rng(seed).permutation(12)[:4]
    found = LokiRule(space, observed).predict(p)
    assert (LokiRule(matrix_space(scale * space.matrix), observed).predict(p) == found).all()  # type: ignore[union-attr]
    order = np.random.default_rng(seed + 1).permutation(12)
    moved = matrix_space(space.matrix[np.ix_(order, order)], [space.names[i] for i in order])  # type: ignore[union-attr]
    again = LokiRule(moved, [space.names[i] for i in observed])
    assert [moved.names[i] for i in again.predict(p)] == [space.names[i] for i in found]


def test_squared_euclidean_distance_is_distance_from_the_mean() -> None:
    """Oracle: sum p_i |e_y - e_i|^2 = |e_y - mu|^2 + sum p_i |e_i - mu|^2, the bias-variance identity."""
    vectors = np.random.default_rng(0).standard_normal((40, 5)) + 100
    observed, p = np.arange(3, 15), drawn(30, 12)
    mean = p @ vectors[observed]  # [B, d]
    spread = (p[:, :, None] * (vectors[observed][None] - mean[:, None]) ** 2).sum((1, 2))
    near = ((vectors[None] - mean[:, None]) ** 2).sum(2)
    rule = LokiRule(embedding_space(vectors), observed)
    assert np.allclose(rule.scores(p), -near - spread[:, None], atol=1e-9)
    assert (rule.predict(p) == near.argmin(1)).all()


@pytest.mark.parametrize("kind", ["tree", "graph", "embeddings", "matrix"])
def test_blocks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same labels, the best five and scores whatever the size of blocks, ties too."""
    space = (
        spaces()[kind] if kind != "tree" else edges_space(np.stack([np.arange(11) // 2, np.arange(1, 12)], 1))
    )
    p = np.concatenate([drawn(20, 3), np.full((1, 3), 1 / 3), np.eye(3), [[0.5, 0.5, 0]]])
    rule = LokiRule(space, [2, 9, 5])
    whole = rule.predict(p), rule.top(p, 5), rule.scores(p)
    for numbers in (1, 25 * 5, 25 * 7):
        monkeypatch.setattr(module, "AT_ONCE", numbers)
        assert (rule.predict(p) == whole[0]).all() and (rule.top(p, 5) == whole[1]).all()
        assert np.allclose(rule.scores(p), whole[2])
    assert (whole[1][:, 0] == whole[0]).all()
    monkeypatch.setattr(module, "AT_ONCE", 1)  # 4 and 5 cost the same, in blocks of their own
    assert LokiRule(LINE, [0, 9]).predict(np.array([[0.5, 0.5]]))[0] == 4


def test_tensors_and_arrays() -> None:
    """Oracle: a tensor gives a tensor of the same values; gradients of scores are the costs."""
    rule, p = LokiRule(LINE, [1, 5, 9]), drawn(4, 3)
    tensor = torch.tensor(p, requires_grad=True)
    for name in ("predict", "scores", "restricted", "most_probable"):
        found = getattr(rule, name)(tensor)
        assert isinstance(found, torch.Tensor)
        assert (found.detach().numpy() == getattr(rule, name)(p)).all()
    rule.scores(tensor)[:, 4].sum().backward()
    assert tensor.grad is not None and torch.allclose(tensor.grad, -torch.tensor([9.0, 1.0, 25.0]).double())
    assert rule.predict(torch.tensor(p).float()).tolist() == rule.predict(p).tolist()
    # Squares of large distances would be infinite in half precision.
    far = embedding_space(np.array([[0.0], [400.0], [1000.0]]))
    assert LokiRule(far, [0, 2]).predict(torch.tensor([[0.6, 0.4]]).half()).tolist() == [1]


def test_temperature() -> None:
    """Oracle: T towards 0 is argmax, large T the medoid, 1 leaves probabilities as they are."""
    p = drawn(40, 5)
    observed = [0, 2, 3, 6, 9]
    found = {t: LokiRule(LINE, observed, temperature=t).predict(p) for t in (0.01, 1.0, 1000.0)}
    assert (found[0.01] == LokiRule(LINE, observed).most_probable(p)).mean() > 0.9
    assert (found[1000.0] == LokiRule(LINE, observed).medoid()).all()
    assert (found[1.0] == np.round(p @ np.array(observed))).mean() > 0.95


def test_float32_distances_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: distances on a tree kept in float32 give the labels that float64 gives."""
    tree, p = spaces()["tree"], drawn(30, 4)
    exact = LokiRule(tree, [0, 3, 5, 8]).predict(p)
    monkeypatch.setattr(module, "FLOAT_FROM", 0)
    small = LokiRule(tree, [0, 3, 5, 8])
    assert small._rows is not None and small._rows.dtype == np.float32
    assert (small.predict(p) == exact).all()


def test_one_observed_label() -> None:
    """Oracle: it is predicted always, with a warning."""
    with pytest.warns(UserWarning, match="One label is observed, '4'"):
        rule = LokiRule(LINE, [4])
    assert rule.predict(np.ones((3, 1))).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (np.array([[0.2, 0.8], [1.0, np.nan]]), "row 1 are not finite"),
        (np.array([[0.2, 0.8], [2.0, -1.0]]), "Row 1 has no probabilities: it adds up to 1, the least is -1"),
        (np.array([[3.0, 1.0]]), "adds up to 4.*softmax"),
        (np.array([[0.2, 0.797]]), "adds up to 0.997"),
        (np.ones((2, 3)) / 3, r"shape \(2, 3\); give \[items, 2\]"),
        (np.array([0.5, 0.5]), r"shape \(2,\)"),
    ],
)
def test_what_is_no_probability(p: np.ndarray, words: str) -> None:
    """Oracle: the row that is wrong, by construction."""
    with pytest.raises(DataError, match=words):
        LokiRule(LINE, [0, 9]).predict(p)


def test_nearly_probabilities_pass() -> None:
    """Oracle: sums within 0.001 of 1, as float32 gives them."""
    assert LokiRule(LINE, [0, 9]).predict(np.array([[0.0, 0.9995]])).tolist() == [9]


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        ([0, 10], "10 is none of the 10 labels"),
        ([-1, 2], "-1 is none"),
        ([3, 3], "'3' is given twice"),
        ([], "None is observed"),
        (["1", "eleven"], "no label 'eleven'"),
    ],
)
def test_wrong_observed_labels(observed: Any, words: str) -> None:
    """Oracle: the label that is wrong, by construction."""
    with pytest.raises(DataError, match=words):
        LokiRule(LINE, observed)


def test_wrong_settings() -> None:
    """Oracle: an exponent of 3, a temperature of 0."""
    for wrong in ({"exponent": 3}, {"temperature": 0.0}):
        with pytest.raises(UsageError, match="exponent must be 1 or 2"):
            LokiRule(LINE, [0, 9], **wrong)  # type: ignore[arg-type]
    assert numbers_of(LINE, ["3", "0"]).tolist() == [3, 0]
