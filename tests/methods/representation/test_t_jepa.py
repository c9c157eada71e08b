"""What is particular to T-JEPA: which latents are asked for, who gets gradients, what is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.config import from_dict
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.mixed_tables import Table, table_of
from selfstudy.data.table_columns import CategoricalColumn, NumericColumn, Rows, TableColumns
from selfstudy.data.table_masks import ColumnMasks, Masks
from selfstudy.learning.latent_prediction import LatentPredictor
from selfstudy.methods.representation import t_jepa
from selfstudy.methods.representation.t_jepa import TJepa, jepa_loss
from selfstudy.models.ema import follow, follower
from selfstudy.models.encoders.table_heads import TablePredictor
from selfstudy.models.encoders.tables import TabularTransformer
from selfstudy.tasks.tables import table_task

SHORT: dict[str, Any] = {
    "pretraining": {"epochs": 2, "batch": 32, "optimizer": "adamw", "warmup_epochs": 0, "clip": 1.0},
    "probing": {"every": 1, "items": 40},
}


def mixed(count: int = 200) -> Table:
    rng = np.random.default_rng(0)
    size = rng.normal(size=count)
    return table_of(
        {
            "a": size,
            "b": rng.normal(size=count),
            "c": 2 * size + 0.1 * rng.normal(size=count),
            "d": np.where(size > 0, "big", "small"),
            "e": rng.choice(["x", "y", "z"], size=count),
            "label": np.where(size > 0.2, "yes", "no"),
        }
    )


def task(**fields: Any) -> Any:
    return table_task("mixed", mixed(), None, "label", **fields)


def encoder(table: Table | None = None, **fields: Any) -> TabularTransformer:
    sizes = {"width": 8, "layers": 1, "heads": 2, "hidden": 16}
    return TabularTransformer(**{**sizes, **fields}).made_for(table or mixed().without("label"))


def predictor(model: TabularTransformer) -> LatentPredictor:
    return TJepa(predictor_width=8, predictor_layers=1, predictor_heads=2).latent_predictor(model, 5)


def fit(folder: Path, made: Any, start: TabularTransformer, **fields: Any) -> Any:
    method = from_dict(TJepa, {**SHORT, **fields})
    method.validate()
    with Run(folder, {}) as run:
        return method.fit(made.metered(run.meter), start, run), run


@pytest.mark.parametrize("registers", [0, 1, 3])
def test_targets_are_the_tokens_of_their_columns(monkeypatch: pytest.MonkeyPatch, registers: int) -> None:
    """Oracle: with encoders that change nothing, the told latents are the tokens of exactly the asked
    columns, for each of them, first and last too; the context is the registers and the shown columns."""
    model = encoder(registers=registers)
    monkeypatch.setattr(TabularTransformer, "encode", lambda self, tokens: tokens)
    rows = model.rows(mixed()).at(slice(5))
    tokens, told, shown = model.tokens(rows), [], []

    def asked(encoded: torch.Tensor, context: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        shown.append(encoded)
        return torch.zeros(*targets.shape, 8)

    def noted(predicted: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        told.append(latents)
        return predicted.sum()

    monkeypatch.setattr(t_jepa, "latent_loss", noted)
    for column in range(5):
        other = (column + 1) % 5
        masks = Masks(np.full((5, 1), other), np.full((1, 5, 1), column))
        jepa_loss(model, model, asked, rows, masks)  # type: ignore[arg-type]
        assert torch.equal(told[-1][0, :, 0], tokens[:, registers + column])
        assert torch.equal(shown[-1], tokens[:, [*range(registers), registers + other]])


def test_gradients_and_the_teacher() -> None:
    """Oracle: no gradient in the teacher, one in every weight that is trained; m = 0 makes it the student,
    m = 1 leaves it bit-identical."""
    student = encoder()
    teacher, guess, rows = follower(student), predictor(student), student.rows(mixed()).at(slice(40))
    masks = TJepa().masks(5, 1, np.arange(40))
    before = [weight.clone() for weight in teacher.parameters()]
    jepa_loss(student, teacher, guess, rows, masks).backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    trained = [*student.parameters(), *guess.parameters()]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained)
    torch.optim.SGD(trained, lr=0.1).step()
    follow(teacher, student, 1.0)
    assert all(torch.equal(old, new) for old, new in zip(before, teacher.parameters(), strict=True))
    follow(teacher, student, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))


def test_a_perfect_prediction_costs_nothing() -> None:
    """Oracle: 0 where the predictor says what the teacher says; the square of a shift where it is off."""
    model, rows = encoder(), encoder().rows(mixed()).at(slice(6))
    masks = TJepa().masks(5, 2, np.arange(6))
    latents = model.encoded(rows)
    for shift in (0.0, 0.5):

        def knowing(encoded: Any, context: Any, targets: torch.Tensor, shift: float = shift) -> torch.Tensor:
            places = (model.registers + targets)[..., None].expand(-1, -1, -1, 8)
            return torch.stack([latents.gather(1, at) for at in places]) + shift

        loss = jepa_loss(model, model, knowing, rows, masks)  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(shift**2, abs=1e-6)


def test_the_order_of_columns_does_not_matter() -> None:
    """Oracle: columns permuted within their kinds, with their weights and places, give the same loss."""
    model = encoder(types=True)
    guess, rows, masks = (
        predictor(model),
        model.rows(mixed()).at(slice(10)),
        TJepa().masks(5, 3, np.arange(10)),
    )
    teacher = follower(encoder(types=True, seed=2))
    loss = jepa_loss(model, teacher, guess, rows, masks)
    numbers, words = [2, 0, 1], [1, 0]  # new place -> old place
    order = [*numbers, *(3 + place for place in words)]
    place = np.argsort(order)
    for network in (model, teacher):
        _permute(network, numbers, words)
    guess.places = guess.places[order]
    moved = Rows(rows.numbers[:, numbers], rows.codes[:, words])
    again = jepa_loss(model, teacher, guess, moved, Masks(place[masks.context], place[masks.targets]))
    assert torch.allclose(loss, again, atol=1e-6)
    wrong = jepa_loss(model, teacher, guess, moved, masks)
    assert not torch.allclose(loss, wrong, atol=1e-4)


def _permute(model: TabularTransformer, numbers: list[int], words: list[int]) -> None:
    part, registers = model.tokeniser, model.registers
    counts = model.columns.cardinalities
    starts = np.cumsum([0, *counts])
    columns = [*numbers, *(3 + word for word in words)]
    codes = [code for word in words for code in range(starts[word], starts[word] + counts[word])]
    with torch.no_grad():
        part.slope[registers:] = part.slope[registers:][numbers].clone()
        part.bias[:] = part.bias[columns].clone()
        part.codes[:] = part.codes[codes].clone()
        part.place[registers:] = part.place[registers:][columns].clone()
        part.starts[:] = torch.from_numpy(np.cumsum([0, *[counts[word] for word in words]])[:-1])
    found = model.columns
    model._columns = TableColumns(
        numeric=tuple(found.numeric[at] for at in numbers),
        categorical=tuple(found.categorical[at] for at in words),
    )


def test_a_copied_column_is_predicted() -> None:
    """Oracle: after training, the latent of a copy of column 1 is told from column 1 with less than a third
    of the error that telling it from noise leaves, which is its variance."""
    rng = np.random.default_rng(0)
    one = rng.uniform(size=2000)
    table = table_of({"one": one, "copy": one, "noise": rng.uniform(size=2000)})
    student = encoder(table)
    method = TJepa(masks=ColumnMasks(context=(0.3, 0.35), target=(0.3, 0.35), targets=2))
    teacher, guess, rows = follower(student), method.latent_predictor(student, 1), student.rows(table)
    losses = method.losses(student, teacher, guess, rows, stream_key)
    optimizer = torch.optim.AdamW([*student.parameters(), *guess.parameters()], lr=5e-3, fused=True)
    for step in range(400):
        losses(step, rng.integers(0, 2000, size=64))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        follow(teacher, student, 0.98)
    told = teacher.encoded(rows)[:, 2]

    def error(shown: int) -> float:
        with torch.no_grad():
            encoded = student.encode(student.tokens(rows)[:, [0, 1 + shown]])
            said = guess(encoded, torch.full((2000, 1), shown), torch.full((1, 2000, 1), 1))
        return float((said[0, :, 0] - told).square().mean() / told.var(0, correction=0).mean())

    assert told.std(0).mean() > 1e-3, "not collapsed"
    assert error(0) < error(2) / 3 and 0.8 < error(2) < 1.3


def test_a_fit_and_what_it_reports(tmp_path: Path) -> None:
    """Oracle: the counts that were asked for; the start is left as it is; the meter is the cost."""
    made, start = task(labels=40), encoder(task().train)
    before = {name: weight.clone() for name, weight in start.state_dict().items()}
    fitted, run = fit(tmp_path, made, start)
    assert all(torch.equal(start.state_dict()[name], weight) for name, weight in before.items())
    assert not torch.equal(fitted.model.tokeniser.slope, start.tokeniser.slope)
    assert fitted.model.tokeniser.slope.requires_grad
    method = from_dict(TJepa, SHORT)
    assert {unit: run.meter.snapshot()[unit] for unit in ("samples", "flops")} == pytest.approx(
        method.cost(made, start)
    )
    steps = [line for line in run.metrics() if "loss" in line]
    assert len(steps) == 2 * (len(made.train) // 32) == method.trial(made, start)[1]
    assert fitted.metrics["probe curve"]["epochs"] == [0, 1, 2] and len(fitted.pictures) == 1
    method.trial(made, start)[0]()


def test_the_head(tmp_path: Path) -> None:
    """Oracle: above the most frequent class on test rows, on the encoder that is given back; with numbers to
    tell, less error than the mean; without labels it is refused before any work."""
    head = {"network": "mlp", "adapter": "per-feature", "learning_rates": [3e-3], "epochs": 40}
    made = task()
    fitted, _ = fit(tmp_path / "classes", made, encoder(made.train), head=head)
    told = fitted.parts["predictor"]
    assert isinstance(told, TablePredictor) and np.mean(made.evaluate(told).values) > 0.75
    assert torch.equal(told.encoder.tokeniser.slope, fitted.model.tokeniser.slope)
    assert "predictor" in made.look(encoder(made.train), fitted.model, fitted.parts)["metrics"]
    numbers = table_task("numbers", mixed(), None, "a", goal="numbers")
    fitted, _ = fit(tmp_path / "numbers", numbers, encoder(numbers.train), head={**head, "adapter": "whole"})
    assert np.mean(numbers.evaluate(fitted.parts["predictor"]).values) < 0.6
    bare = table_task("bare", mixed(), None, "")
    with pytest.raises(UsageError, match="no labels to train a head on"):
        fit(tmp_path / "bare", bare, encoder(bare.train), head=head)
    assert not list((tmp_path / "bare").glob("stages/*"))


def test_a_run_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Oracle: weights, log and curve of the uncut run, bit for bit, after an end between two checkpoints."""

    def run_to(folder: Path, stop: int | None) -> Any:
        method, made = from_dict(TJepa, SHORT), task(labels=40)
        with Run(folder, {}, checkpoint_steps=1) as run:
            log = run.log

            def logging(**values: Any) -> None:
                log(**values)
                if values.get("step") == stop and "loss" in values:
                    raise KeyboardInterrupt

            run.log = logging  # type: ignore[method-assign]
            fitted = method.fit(made.metered(run.meter), encoder(made.train), run)
            return fitted, [{**line, "seconds": 0} for line in run.metrics()]

    whole, lines = run_to(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path / "cut", 5)
    again, after = run_to(tmp_path / "cut", None)
    pairs = zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for (_, one), other in pairs)
    assert after == lines and again.metrics == whole.metrics


def test_a_collapse_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: where the student is pulled to a constant, training stops and gives weights back."""
    monkeypatch.setattr(
        t_jepa,
        "jepa_loss",
        lambda student, teacher, guess, rows, masks: _flat(student, rows) + 0 * _any(guess),
    )
    made = task(labels=40)
    settings = {**SHORT["pretraining"], "epochs": 40, "learning_rate": 0.05}
    fields = {"pretraining": settings, "teacher_keep": 0.0, "probing": {"every": 0, "keep": "last"}}
    fitted, _ = fit(tmp_path, made, encoder(made.train), **fields)
    assert fitted.metrics["collapsed_at"] > 0
    spread = [
        float(model.encoded(model.rows(made.train)).std(0).mean())
        for model in (encoder(made.train), fitted.model)
    ]
    assert spread[1] > 0.1 * spread[0]


def _flat(student: TabularTransformer, rows: Rows) -> torch.Tensor:
    return student.encode(student.tokens(rows)).var(0).mean()


def _any(module: torch.nn.Module) -> torch.Tensor:
    return sum(weight.sum() for weight in module.parameters())  # type: ignore[return-value]


@pytest.mark.parametrize(
    "fields",
    [
        {"predictor_width": 6, "predictor_heads": 4},
        {"predictor_layers": 0},
        {"teacher_keep": 1.5},
        {"masks": {"targets": 0}},
        {"masks": {"context": [0.5, 0.4]}},
        {"pretraining": {"batch": 0}},
        {"head": {"held_out": 1.0}},
        {"probing": {"every": -1.0}},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        from_dict(TJepa, fields).validate()
    TJepa().validate()


def test_misfits_are_refused_before_work(tmp_path: Path) -> None:
    """Oracle: fewer rows than a batch, too few columns, another table: nothing is written."""
    two = table_task("two", mixed().without("b", "c", "d"), None, "label")
    for made, start, fields, error, words in (
        (task(), None, {"pretraining": {"batch": 500}}, DataError, "fewer than one batch of 500"),
        (two, None, {}, UsageError, "Of the table's 2 columns, shares of 0.2 for context"),
        (
            task(),
            encoder(mixed().without("label", "a")),
            {"masks": {"context": [0.01, 0.02]}},
            UsageError,
            "4 columns",
        ),
        (two, encoder(), {}, UsageError, "reads the columns a, b, c"),
    ):
        with pytest.raises(error, match=words):
            fit(tmp_path / "run", made, start or encoder(made.train), **fields)
        assert not list((tmp_path / "run").glob("stages/*"))


@pytest.mark.parametrize("kept", [("a", "b", "c"), ("d", "e", "label")])
def test_tables_of_one_kind(tmp_path: Path, kept: tuple[str, ...]) -> None:
    """Oracle: tables of numbers alone, and of words alone, are trained on without labels."""
    whole = mixed()
    made = table_task("one kind", whole.without(*(set(whole.cells) - set(kept))), None, "")
    kinds = {
        type(column)
        for column in (*encoder(made.train).columns.numeric, *encoder(made.train).columns.categorical)
    }
    assert kinds == {NumericColumn if "a" in kept else CategoricalColumn}
    masks = {"context": [0.3, 0.4], "target": [0.3, 0.4], "targets": 2}
    fitted, _ = fit(tmp_path, made, encoder(made.train), masks=masks)
    assert np.isfinite(made.evaluate(fitted.model).values).all()


def test_the_default_works() -> None:
    """Oracle: the default task has columns and rows enough for the default fields."""
    made = selfstudy.task("breast-cancer")
    TJepa().masks.require(len(made.prepared(TabularTransformer()).columns))
    assert TJepa().cost(made, TabularTransformer())["samples"] > 10_000
