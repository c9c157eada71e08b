"""What is particular to scan and snap: the dynamics of attention and decoder, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.config import from_dict
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.data.cooccurrence import Cooccurrence, Sequences
from selfstudy.methods.mechanisms.scan_and_snap import ScanAndSnap
from selfstudy.models.attention_decoder import AttentionDecoder
from selfstudy.tasks.cooccurrence import CooccurrenceTask

RECIPES = Path(__file__).resolve().parents[3] / "docs" / "recipes"
SMALL = "cooccurrence?common=3&own=3&context=16&items=16"
VOCABULARY = 2 + 2 + 3 + 6
FEW = {"steps": 6, "batch": 4, "records": 3, "probe": 4}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def fit(
    folder: Path,
    task: Any = SMALL,
    model: Any = None,
    budget: Budget | None = None,
    seed: int = 0,
    **fields: Any,
):
    task = selfstudy.task(task) if isinstance(task, str) else task
    model = model or AttentionDecoder(vocabulary=task.vocabulary)
    settings = ScanAndSnap(**{**FEW, **fields})
    settings.validate()
    with Run(folder, {}, seed=seed, budget=budget) as run:
        return settings.fit(task.metered(run.meter), model, run), run.metrics(), run.meter.snapshot()


@pytest.mark.parametrize("seed", range(3))
def test_scan_and_snap_with_the_settings_of_the_paper(seed: int, tmp_path: Path) -> None:
    """Oracle: the paper's figure and our pilot of other code: common mass 0.645 to 0.30-0.45, then frozen."""
    fields = {"steps": 100, "batch": 128, "records": 100}
    fitted, log, _ = fit(tmp_path, "cooccurrence", seed=seed, **fields)
    figures = fitted.metrics
    assert figures["common mass at the start"] == pytest.approx(10 / 15.5)
    assert 0.30 < figures["common mass"] < 0.45
    assert figures["order correlation"] > 0.95 and figures["largest share of one token"] < 0.5
    assert 20 < figures["freeze step"] < 60
    assert figures["rank of distinct above common tokens"] > 0
    masses = [row["common_mass"] for row in log]
    assert abs(figures["common mass"] - masses[50]) < 0.1 * abs(masses[50] - masses[0])
    assert log[-1]["loss"] < 0.01 < log[0]["loss"]


def test_a_decoder_that_says_nothing_moves_no_attention(tmp_path: Path) -> None:
    """Oracle: with Y at 0 the gradient of Z is 0: a rate of the decoder near 0 leaves Z where it was."""
    fitted, _, _ = fit(tmp_path, decoder_rate=1e-30)
    assert fitted.model.attention.matrix().abs().max() < 1e-20


def test_without_a_rate_attention_stays_uniform_and_the_decoder_learns(tmp_path: Path) -> None:
    """Oracle: c = P throughout, and a falling loss."""
    fitted, log, _ = fit(tmp_path, attention_rate=1e-30, steps=60, batch=16)
    figures = fitted.metrics
    assert figures["common mass"] == pytest.approx(figures["common mass at the start"])
    assert figures["attention entropy"] == pytest.approx(figures["attention entropy if uniform"], rel=1e-5)
    assert log[-1]["loss"] < 0.1 * log[0]["loss"]


def population_step(table: Cooccurrence) -> np.ndarray:
    """The change of Z's column in the second step of gradient descent from zero, T to infinity, by hand.

    The first step moves Y alone. Classes come equally often; u is P, normalised, at uniform attention.
    """
    p = table.probabilities
    u = p / np.linalg.norm(p, axis=1, keepdims=True)
    target = np.eye(table.vocabulary)[table.next]
    y = (target - 1 / table.vocabulary).T @ u / len(p)  # after a step of rate 1
    logits = u @ y.T
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    g = (share - target) @ y
    h = (g - u * (u * g).sum(1, keepdims=True)) / np.linalg.norm(p, axis=1, keepdims=True)
    return -(p * h).sum(0)  # one last token


def test_the_first_move_is_away_from_common_tokens() -> None:
    """Oracle: theory, in all of 100 random tables: common tokens go down, distinct ones up on average."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        classes, common, own = rng.integers(2, 5), rng.integers(1, 6), rng.integers(1, 6)
        shared = rng.uniform(0.1, 1, common)
        size = 1 + classes + common + classes * own
        weights = np.zeros((classes, size))
        weights[:, 1 + classes : 1 + classes + common] = shared
        for k in range(classes):
            start = 1 + classes + common + k * own
            weights[k, start : start + own] = rng.uniform(0.1, 1, own)
        p = weights / weights.sum(1, keepdims=True)
        table = Cooccurrence(
            last=np.zeros(classes, dtype=int),
            next=1 + np.arange(classes),
            probabilities=p,
            common=(weights > 0) & ((weights > 0).sum(0) > 1),
        )
        move = population_step(table)
        is_common, is_distinct = table.common.any(0), table.distinct.any(0)
        mean = np.average(move[is_distinct], weights=p.sum(0)[is_distinct])
        assert move[is_common].max() < 0 < mean


class Exact(CooccurrenceTask):
    """A sequence of each class in which every token comes exactly as often as P says."""

    def batch(self, size: int, rng: np.random.Generator) -> Sequences:
        rows = np.rint(self.table.probabilities * 155).astype(
            int
        )  # ten common tokens of 10, own ones of 1 to 10
        context = np.array([np.repeat(np.arange(self.vocabulary), row) for row in rows])
        tokens = np.concatenate([context, self.table.last[:, None]], axis=1)
        return Sequences(torch.from_numpy(tokens), torch.from_numpy(self.table.next[:, None]))


def test_two_steps_are_those_of_the_population(tmp_path: Path) -> None:
    """Oracle: the same closed form against training without momentum on sequences that are exactly P."""
    task = Exact("exact", selfstudy.task("cooccurrence?last=1&next=2").table)
    fitted, _, _ = fit(tmp_path, task, steps=2, momentum=0.0, records=1)
    moved = fitted.model.attention.matrix().detach().double().numpy()
    expected = population_step(task.table) / len(task.table.last)
    np.testing.assert_allclose(moved[:, 0], expected, atol=1e-4 * np.abs(expected).max())
    assert (moved[:, 1:] == 0).all()


def test_all_rates_see_the_same_sequences(tmp_path: Path) -> None:
    """Oracle: a sweep at the rates of the main training is that training again."""
    fitted, log, spent = fit(tmp_path, sweep_ratios=(1.0, 3.0), sweep_rates=(0.5, 1.0), attention_rate=1.0)
    sweep = fitted.metrics["sweep"]
    rates = [(row["attention_rate"], row["decoder_rate"]) for row in sweep]
    assert rates == [(0.5, 0.5), (0.5, 1.5), (1.0, 1.0), (1.0, 3.0)]
    assert sweep[2]["entropy"] == fitted.metrics["entropy"] != sweep[3]["entropy"]
    assert (
        spent["samples"]
        == 5 * 6 * 4
        == ScanAndSnap(**FEW, sweep_ratios=(1.0, 3.0), sweep_rates=(0.5, 1.0)).cost(None, None)["samples"]
    )  # type: ignore[arg-type]
    assert {row["stage"] for row in log} == {"dynamics", *(f"sweep-{i}" for i in range(4))}


def test_rates_momentum_clip_and_decay(tmp_path: Path) -> None:
    """Oracle: torch's SGD with two groups, in a loop of its own."""
    fields = {"attention_rate": 0.7, "decoder_rate": 1.9, "momentum": 0.5, "clip": 0.2, "decay": 0.25}
    fitted, _, _ = fit(tmp_path, **fields)
    task, model = selfstudy.task(SMALL), AttentionDecoder(vocabulary=VOCABULARY)
    optimizers = [
        (torch.optim.SGD(part.parameters(), lr=1.0, momentum=0.5), rate)
        for part, rate in ((model.attention, 0.7), (model.decoder, 1.9))
    ]
    with Run(tmp_path / "other", {}) as run:
        for step in range(6):
            tokens, targets = task.batch(4, run.rng("batch", step))
            loss = torch.nn.functional.cross_entropy(model(tokens)[:, 0], targets[:, 0])
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            for optimizer, rate in optimizers:
                optimizer.param_groups[0]["lr"] = rate * 0.25 ** (step / 6)
                optimizer.step()
    for name, weight in fitted.model.state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name])


def test_the_model_given_is_left_alone_and_text_works(tmp_path: Path) -> None:
    """Oracle: the weights before; a poem that repeats, whose next word is soon known."""
    path = tmp_path / "poem.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log . " * 150)
    task = selfstudy.task(f"next-words?text={path}&window=8&items=4")
    model = AttentionDecoder(vocabulary=task.vocabulary, width=4, residual=True)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fitted, log, _ = fit(tmp_path / "run", task, model, steps=60, batch=8)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert log[-1]["loss"] < log[0]["loss"] - 0.5
    assert len(fitted.pictures) == 6 and fitted.metrics["entropy"] > 0


def test_a_budget_ends_it_early(tmp_path: Path) -> None:
    """Oracle: three steps of four sequences fit into 13; the record at the end is of step 3."""
    fitted, _, spent = fit(tmp_path, budget=Budget(samples=13))
    assert spent["samples"] == 12
    assert fitted.pictures[0]["traces"][0]["x"] == [0, 2, 3]


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"batch": 0},
        {"records": 0},
        {"probe": 0},
        {"attention_rate": 0.0},
        {"decoder_rate": -1.0},
        {"attention_rate": float("nan")},
        {"decoder_rate": float("inf")},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"decay": 0.0},
        {"decay": 1.1},
        {"clip": 0.0},
        {"sweep_ratios": (1.0, 0.0)},
        {"sweep_rates": (1.0,)},
    ],
)
def test_fields_out_of_range(fields: dict[str, Any]) -> None:
    """Oracle: each limit, with the field's name in the message; the defaults pass."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        ScanAndSnap(**fields).validate()
    ScanAndSnap().validate()


def test_what_does_not_fit(tmp_path: Path) -> None:
    """Oracle: another vocabulary, another kind of model, rates at which nothing stays finite."""
    with pytest.raises(UsageError, match=r"50 tokens.* 13"):
        fit(tmp_path / "a", model=AttentionDecoder(vocabulary=50))
    with pytest.raises(UsageError, match="attention-decoder"):
        fit(tmp_path / "b", model="tiny-lm")
    for name, fields in (("c", {"steps": 2}), ("d", {"steps": 9, "records": 1})):
        with pytest.raises(UsageError, match=r"not finite.*attention_rate"):
            fit(tmp_path / name, attention_rate=1e38, decoder_rate=1e38, **fields)


def test_the_recipe_fits_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: its fields are the method's; its model is that of a text with all the words its task keeps."""
    recipe = yaml.safe_load((RECIPES / "scan-and-snap.yaml").read_text())
    from_dict(ScanAndSnap, recipe["fields"]).validate()
    words = " ".join(f"w{i}" for i in range(40_000))
    for split in ("train", "valid", "test"):
        path = tmp_path / "wikitext103" / f"{split}.txt.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(words.encode(), compresslevel=1))
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    task = selfstudy.task(recipe["task"])
    model = selfstudy.model(recipe["models"]["attention_decoder"])
    assert model.vocabulary == task.vocabulary and model.residual
    assert len(task.evaluate(model, limit=2).values) == 2
