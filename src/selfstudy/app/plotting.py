"""`selfstudy show METHOD --plot`: the learning rates that the settings of a method ask for, as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.fields import config_from
from selfstudy.core.errors import UsageError
from selfstudy.core.index import find
from selfstudy.evaluation.pictures import Picture, line, picture

if TYPE_CHECKING:
    from rich.console import Console

    from selfstudy.core.method import Method

STEPS = 200  # drawn where the number of steps depends on the data
DOMAINS = ("first", "second", "third")
Curve = tuple[str, Sequence[float], Sequence[float]]
"""What the horizontal axis counts, its values, and the rates."""


def plot(slug: str, options: Sequence[str], path: Path, console: Console) -> None:
    """Write the page of a method's learning rates, and say where.

    Args:
        slug: of the method.
        options: fields of the method, as on the command line of a fit.
        path: of the page; an empty one is METHOD-learning-rate.html in the working directory.
        console: where to say it.

    Raises:
        UsageError: unknown fields, or settings without a learning rate.
    """
    from selfstudy.app.report import write_pictures

    entry = find(slug)
    method = config_from(entry.load(), None, options)
    method.validate()
    pictures = rate_pictures(method)
    if not pictures:
        raise UsageError(f"The settings of {slug!r} name no learning rate: there is nothing to plot.")
    path = path if path.name else Path(f"{slug}-learning-rate.html")
    lead = "The learning rate of every update, as the settings ask for it; nothing was trained for this page."
    write_pictures(path, f"{slug}: learning rate", lead, pictures)
    console.print(f"Plot: {path}", highlight=False, markup=False)


def rate_pictures(method: Method) -> list[Picture]:
    """Return a picture for each part of a method's settings that has a learning rate."""
    from selfstudy.evaluation.schedule_pictures import stream_picture
    from selfstudy.learning.stream_schedules import StreamSchedule

    found = []
    for name, settings in _parts("", method):
        if isinstance(settings, StreamSchedule):
            training = getattr(method, "training", None)
            steps = getattr(training, "steps", STEPS)
            found.append(stream_picture(settings, steps, DOMAINS, branch=getattr(training, "branch", True)))
            continue
        draw = CURVES.get(type(settings).__name__)
        if draw:
            over, steps, rates = draw(settings)
            found.append(
                picture(
                    f"Learning rate: {name}" if name else "Learning rate",
                    [line("learning rate", steps, rates)],
                    x=over,
                    y="learning rate",
                    layout={"yaxis": {"rangemode": "tozero"}},
                )
            )
    return found


def _parts(name: str, settings: Any) -> Iterator[tuple[str, Any]]:
    """Give a dataclass and those nested in it, with their dotted names."""
    yield name, settings
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _parts(f"{name}.{field.name}" if name else field.name, value)


def _supervised(settings: Any) -> Curve:
    steps = range(settings.steps)
    return "step", steps, [settings.learning_rate * settings.share(step) for step in steps]


def _pretraining(settings: Any) -> Curve:
    """Over passes: how many steps they have is up to the data."""
    samples = STEPS * settings.batch
    steps = range(settings.steps(samples))
    rates = [settings.rate(step, samples) for step in steps]
    return "pass over the data", [step / STEPS for step in steps], rates


def _linear(settings: Any, warmup: float | None = None) -> Curve:
    """Of fine-tuning: a warm-up and a line; over shares, where the number of steps is up to the data."""
    from selfstudy.learning.loops import learning_rate

    rising = getattr(settings, "warmup", 0.0) if warmup is None else warmup
    steps = getattr(settings, "steps", None)
    count = steps or STEPS
    rates = [learning_rate(step, count, settings.learning_rate, rising) for step in range(count)]
    return ("step", range(count), rates) if steps else (_SHARE, _shares(count), rates)


def _named(settings: Any) -> Curve:
    from selfstudy.learning.schedules import share_of_peak

    steps = range(settings.steps)
    shares = (share_of_peak(settings.schedule, step, settings.steps, settings.warmup) for step in steps)
    return "step", steps, [settings.learning_rate * share for share in shares]


def _rated(settings: Any) -> Curve:
    """Of settings with a function of the step."""
    return "step", range(settings.steps), [settings.rate(step) for step in range(settings.steps)]


def _noisy(settings: Any) -> Curve:
    return _SHARE, _shares(STEPS), [settings.rate(step, STEPS) for step in range(STEPS)]


def _warmed(settings: Any) -> Curve:
    """Of GPICL: a rise, and then the same rate."""
    steps = range(settings.steps)
    return (
        "step",
        steps,
        [settings.learning_rate * min(1.0, (step + 1) / (settings.warmup + 1)) for step in steps],
    )


def _constant(settings: Any) -> Curve:
    return _SHARE, (0.0, 1.0), [settings.learning_rate] * 2


_SHARE = "share of the steps"


def _shares(steps: int) -> list[float]:
    return [step / steps for step in range(steps)]


# By the name of the settings. What sets its rate by the model or the data alone is not here.
CURVES: dict[str, Callable[[Any], Curve]] = {
    "Supervised": _supervised,
    "Pretraining": _pretraining,
    "FurtherPretraining": _named,
    "FineTuning": _linear,
    "Preference": _linear,
    "MaskedLanguage": _linear,
    "ValueFitting": _linear,
    "TextFineTuning": partial(_linear, warmup=0.1),
    "SetFitTuning": partial(_linear, warmup=0.1),
    "PairTuning": partial(_linear, warmup=0.1),
    "NoisyTraining": _noisy,
    "StageTraining": _rated,
    "Gpicl": _warmed,
    "PolicyGradient": _constant,
    "CriticFitting": _constant,
    "SequenceTuning": _constant,
    "Gcool": _constant,
    "OneStepGd": lambda settings: _rated(settings.training),
}
