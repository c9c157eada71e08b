"""The contracts, as functions of a method: each raises AssertionError when the method breaks it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import io
import itertools
import json
import random
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import selfstudy
from selfstudy.app import cli, fitting
from selfstudy.app.saving import load, save
from selfstudy.core.budget import Budget
from selfstudy.core.checkpoint import SUMS, check_sums
from selfstudy.core.config import from_dict, to_dict
from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.files import as_read, read_json
from selfstudy.core.index import METHODS, Entry
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.oracles import HiddenLabels, Query
from selfstudy.evaluation.statistics import paired_bootstrap
from selfstudy.tasks.reasoning import ReasoningTask

from .sessions import session
from .smallest import Smallest, prepared

GUEST = "guest"


# What the checks share.


@contextlib.contextmanager
def listed(method: type[Method]) -> Iterator[str]:
    """Give the name of the method in the index; puts it there for the time of the block where it is not."""
    target = f"{method.__module__}:{method.__qualname__}"
    for entry in METHODS.values():
        if entry.target == target:
            yield entry.slug
            return
    METHODS[GUEST] = Entry(
        slug=GUEST, title="", authors="", year=0, family="", needs="", gives="", target=target
    )
    try:
        yield GUEST
    finally:
        del METHODS[GUEST]


def fit_alone(
    method: type[Method],
    settings: Smallest,
    folder: Path,
    *,
    task: Any = None,
    model: Any = None,
    seed: int = 0,
    budget: Budget | None = None,
) -> tuple[Fit, dict[str, float]]:
    """Call the method's own `fit`, without the evaluation around it; return also what it spent."""
    chosen = from_dict(method, settings.fields)
    chosen.validate()
    task = task or selfstudy.task(settings.family.task)
    model = model or prepared(task, selfstudy.model(settings.family.model))
    with Run(folder, {}, seed=seed, budget=budget) as run:
        fitted = chosen.fit(task.metered(run.meter), model, run)
        return fitted, run.meter.snapshot()


def weights_of(fitted: Fit, folder: Path) -> dict[str, str]:
    """Return the checksums of all files of the trained models."""
    for name, part in {"model": fitted.model, **fitted.parts}.items():
        save(part, folder / name)
    return checksums(folder)


def checksums(folder: Path) -> dict[str, str]:
    """Return the checksum of each file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def outcome(directory: Path) -> dict[str, Any]:
    """Return what a finished run leaves, without times and places."""
    summary = read_json(directory / "summary.json")
    saved = {name: checksums(directory / name) for name in summary["saved"]}
    del summary["wall_seconds"], summary["spent"]["seconds"]
    log = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    log = [{name: value for name, value in line.items() if name != "seconds"} for line in log]
    stages = sorted(str(path.relative_to(directory)) for path in (directory / "stages").glob("*"))
    # Text, so that nan equals itself.
    return {"saved": saved, "summary": json.dumps(summary), "log": json.dumps(log), "stages": stages}


def require_whole(directory: Path) -> None:
    """Fail unless everything below `directory` can be read, and nothing passes for a finished run."""
    for path in directory.rglob("*") if directory.exists() else ():
        assert ".tmp" not in path.name, f"{path} was left behind"
        if path.suffix == ".json":
            with contextlib.suppress(ValueError):
                json.loads(path.read_text())
                continue
            raise AssertionError(f"{path} is half-written")
        if path.suffix == ".jsonl":
            text = path.read_text()
            assert not text or text.endswith("\n"), f"{path} ends within a line"
            [json.loads(line) for line in text.splitlines()]
        if path.name == SUMS:
            check_sums(path.parent)
    for name in ("model", "summary.json"):
        assert not (directory / name).exists(), f"{name} exists although the fit failed"


# The contracts.


def check_described(method: type[Method], entry: Entry) -> None:
    """Names its source; every field has a line of help; the defaults are a configuration of their own."""
    source = inspect.getdoc(inspect.getmodule(method)) or ""
    surname = entry.authors.split(",")[0].split()[-1]
    for word in (surname, str(entry.year)):
        assert word in source, f"the module's docstring does not name {word!r}"
    assert re.search(r"arXiv \d{4}\.\d{4,5}", source), "the module's docstring gives no arXiv id"
    assert "deviat" in source.lower(), "the module's docstring says nothing about deviations from the paper"
    assert len((method.__doc__ or "").split()) > 4, "the class has no docstring"
    default = method()
    default.validate()
    assert from_dict(method, json.loads(json.dumps(to_dict(default)))) == default
    require_help(default)


def require_help(settings: Any) -> None:
    """Fail unless every field, those of nested settings too, is keyword-only and has a text under it."""
    helped = {name for kind in type(settings).__mro__[:-1] for name in _helped(kind)}
    for field in fields(settings):
        assert field.kw_only, f"{type(settings).__name__}.{field.name} is not keyword-only"
        assert field.name in helped, f"there is no help under {type(settings).__name__}.{field.name}"
        if is_dataclass(getattr(settings, field.name)):
            require_help(getattr(settings, field.name))


def _helped(kind: type) -> Iterator[str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in itertools.pairwise(body.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield field.target.id


def check_learns(method: type[Method], settings: Smallest, folder: Path) -> None:
    """The trained model is right more often than the untrained one, beyond chance: greedily unless stated."""
    family, task = settings.family, selfstudy.task(settings.learning_task)
    with listed(method) as slug:
        # Its own evaluation is not looked at here.
        fitted = fitting.fit(
            slug, task, family.model, out=folder / "run", fields=settings.learning, test_limit=4
        )
    before, after = (
        family.figures(model, task, settings.learning_temperature)
        for model in (prepared(task, selfstudy.model(family.model)), fitted.model)
    )
    gain = paired_bootstrap(after, before).to_json()
    assert gain["mean"] >= family.least_gain and gain["low"] >= 0, f"it gained {gain}"


def check_deterministic(method: type[Method], settings: Smallest, folder: Path) -> None:
    """The same seed gives the same weights, bit for bit; another seed gives others, if anything is drawn."""
    weights = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        fitted, _ = fit_alone(method, settings, folder / name, seed=seed)
        weights.append(weights_of(fitted, folder / f"{name}-weights"))
    assert weights[0] == weights[1], "two fits with one seed differ"
    if settings.seedless:
        assert weights[0] == weights[2], "the seed changes something, so it is not seedless"
    else:
        assert weights[0] != weights[2], "the seed changes nothing"


def check_resumes(method: type[Method], settings: Smallest, folder: Path, trials: int = 2) -> None:
    """Killed at random moments and started again, the real command ends as the uninterrupted one does."""
    (folder / "fields.yaml").write_text(json.dumps(settings.fields))
    with listed(method) as slug:
        arguments = ["fit", slug, "--task", settings.family.task, "--model", settings.family.model]
    arguments += ["--config", str(folder / "fields.yaml")]
    more = {"listed": [slug, inspect.getfile(method), method.__qualname__]} if slug == GUEST else {}
    whole = session(arguments, folder / "whole", **more)
    assert whole["code"] == 0, (folder / "whole.log").read_text()
    chance = random.Random(0)
    for trial in range(trials):
        out = folder / f"killed-{trial}"
        first = {"at": chance.randrange(1, whole["operations"])}
        if whole["within"] and not trial:
            # Once in the second half of the work itself, so that a checkpoint is gone on from.
            first = {"within": chance.randrange(whole["within"] // 2, whole["within"]) + 1}
        again = {"at": chance.randrange(1, whole["operations"] // 2)}
        timed = {"after": chance.uniform(0.1, 0.9) * whole["seconds"]}
        codes = [session(arguments, out, **more, **kill)["code"] for kill in (first, again, timed, {})]
        assert codes[0] == -9 and codes[-1] == 0, f"{codes}\n{(folder / f'{out.name}.log').read_text()}"
        resumed, expected = outcome(out), outcome(folder / "whole")
        for part in expected:
            assert resumed[part] == expected[part], f"killed ({codes}) and resumed, {part} differs"


def check_budget(method: type[Method], settings: Smallest, folder: Path) -> None:
    """Everything drawn is on the meter and tokens are in the records, and no limit is ever passed."""
    family = settings.family
    with family.counted() as drawn:
        _, spent = fit_alone(method, settings, folder / "free")
    assert spent[family.work] == sum(drawn), f"the meter missed some {family.work}"
    assert spent["generated_tokens"] == recount(folder / "free"), "the records do not add up to the meter"
    for unit, share in family.units:
        limit = max(1, int(share * spent[unit]))
        if not spent[unit]:
            continue
        with family.counted() as drawn, contextlib.suppress(BudgetSpent):
            _, cut = fit_alone(
                method, settings, folder / f"{unit}-{share}", budget=Budget(**{unit: float(limit)})
            )
            assert cut[unit] <= limit, f"{cut[unit]} {unit} were spent of {limit}"
        if unit == family.work:
            assert sum(drawn) <= limit, f"{sum(drawn)} {unit} were drawn of {limit}"


def recount(directory: Path) -> int:
    """Add up the tokens in the records of all stages: every "tokens", and every [text, tokens] in "drawn".

    Loops that draw in every step have no records; what they drew is in their lines of the log.
    """

    def tokens(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(tokens, value))
        if not isinstance(value, dict):
            return 0
        own = value.get("tokens", 0) + sum(n for _, n in value.get("drawn", ()))
        return own + sum(tokens(item) for name, item in value.items() if name != "drawn")

    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    logged = sum(line.get("generated_tokens", 0) for line in lines if "step" in line)
    records = (read_json(path).get("value") for path in directory.glob("stages/**/stage.json"))
    return logged + sum(map(tokens, records))


def check_hidden_labels(method: type[Method], settings: Smallest, folder: Path) -> None:
    """The test truth changes nothing; no label is asked for without need, and each that is given counts."""
    weights = []
    for name, splits in (("true", ()), ("wrong", ("test",))):
        task = settings.family.with_wrong_truth(*splits)
        with _asked() as asked:
            fitted, spent = fit_alone(method, settings, folder / name, task=task)
        weights.append(weights_of(fitted, folder / f"{name}-weights"))
        if settings.may_ask:
            assert asked and spent["oracle_labels"] == sum(asked), (
                f"{sum(asked)} labels were given out and {spent['oracle_labels']:.0f} counted"
            )
        assert settings.may_ask or not spent["oracle_labels"], (
            f"{spent['oracle_labels']} labels were asked for"
        )
    assert weights[0] == weights[1], "the weights depend on the answers of the test problems"


@contextlib.contextmanager
def _asked() -> Iterator[list[int]]:
    """Collect how many labels a hidden column gives out inside the block, whoever asks; hints are labels."""
    counts: list[int] = []
    answers, hint = HiddenLabels.answers, ReasoningTask.hint

    def counting(self: HiddenLabels, query: Query, directory: Path) -> list[str]:
        counts.append(len(query.places))
        return answers(self, query, directory)

    def hinting(self: ReasoningTask, *arguments: Any) -> str | None:
        text = hint(self, *arguments)
        counts.append(text is not None)
        return text

    HiddenLabels.answers, ReasoningTask.hint = counting, hinting  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        HiddenLabels.answers, ReasoningTask.hint = answers, hint  # type: ignore[method-assign]


def check_refuses(method: type[Method], settings: Smallest, folder: Path) -> None:
    """Each kind of bad input is a named error of one paragraph, and nothing is left half-written."""
    family = settings.family
    with listed(method) as slug:
        first = next(iter(settings.fields))
        for bad in ({first + "s": 1}, *settings.refused):
            out = folder / "refused"
            message = _refusal(
                UsageError, slug, family.task, family.model, out=out, fields={**settings.fields, **bad}
            )
            assert any(name in message for name in _names(bad)), f"{message!r} names none of {bad}"
            assert not out.exists(), f"{bad} was refused, but something was written"
        for option, name in family.unknown:
            options = {"--task": family.task, "--model": family.model, option: name}
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = cli.main(
                    ["fit", slug, *itertools.chain(*options.items()), "--out", str(folder / "unknown")]
                )
            assert code == 2 and name in said.getvalue() and said.getvalue().count("\n") == 1, said.getvalue()
            assert not (folder / "unknown").exists()
        if settings.needs_truth:
            task = family.with_wrong_truth("train")
            message = _refusal(
                DataError, slug, task, family.model, out=folder / "unsolvable", fields=settings.fields
            )
            assert "problem" in message, message
            require_whole(folder / "unsolvable")
        model, kind, word = family.misfit()
        message = _refusal(kind, slug, family.task, model, out=folder / "misfit", fields=settings.fields)
        assert word in message, message
        require_whole(folder / "misfit")


def _refusal(kind: type[Exception], *arguments: Any, **options: Any) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a run says before it gives up
            fitting.fit(*arguments, **options)
    except kind as error:
        assert "\n" not in str(error) and len(str(error)) > 20, f"not a paragraph: {error}"
        return str(error)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} instead of {kind.__name__}: {error}") from error
    raise AssertionError(f"{options['fields']} on {arguments[1:]} was accepted")


def _names(bad: dict[str, Any]) -> list[str]:
    inner = [name for value in bad.values() if isinstance(value, dict) for name in value]
    return [spelt for name in [*bad, *inner] for spelt in (name, name.replace("_", "-"))]


def check_saves(method: type[Method], settings: Smallest, folder: Path) -> None:
    """What the finished run's directory holds is what `fit` returned: the same weights and predictions."""
    family, task = settings.family, selfstudy.task(settings.family.task)
    with listed(method) as slug:
        fitted = fitting.fit(slug, task, family.model, out=folder / "run", fields=settings.fields)
    for name, part in {"model": fitted.model, **fitted.parts}.items():
        again = load(folder / "run", name)
        assert type(again) is type(part)
        assert family.predict(again, task) == family.predict(part, task), (
            f"the saved {name} predicts otherwise"
        )
        save(again, folder / "again" / name)
        written, read = checksums(folder / "run" / name), checksums(folder / "again" / name)
        assert written == read, f"the saved {name} changes when it is loaded"
    with listed(method) as slug:
        back = fitting.fit(slug, task, family.model, out=folder / "run", fields=settings.fields)
    for part in ("metrics", "held_to", "pictures"):
        assert getattr(back, part) == as_read(getattr(fitted, part)), (
            f"a finished run gives other {part} back"
        )
