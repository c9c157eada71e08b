"""Judges by name: the task's own, a value model, a language model that is asked, or the user's function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.functions import user_function
from selfstudy.models.language.loading import shipped_value_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.models.loading import model as model_named
from selfstudy.signals.judges import Judge, comparisons, function_judge, task_judge, value_judge
from selfstudy.signals.model_judges import RATE, WHICH, pairwise_judge, require_readable, rubric_judge

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

JUDGES = ("task", "value", "pairwise", "rubric")
_ASKED = {"pairwise": (pairwise_judge, WHICH), "rubric": (rubric_judge, RATE)}


def check_name(name: str) -> None:
    """Raise `UsageError` where `name` is neither a judge nor module:function."""
    if name not in JUDGES and ":" not in name:
        raise UsageError(
            f"Unknown judge {name!r}. {nearest(name, JUDGES)} A function of your own is given as "
            "module:function."
        )


def calls_of(name: str, task: ReasoningTask, outputs: int) -> int:
    """Return the verifier calls of the judge of a name for one contest of so many outputs."""
    if name == "value" or name in _ASKED:
        return 0
    return outputs if name == "task" and task.verifier != "judge" else comparisons(outputs)


def open_judge(
    name: str,
    source: str,
    task: ReasoningTask,
    policy: LanguageModel,
    prompt: Callable[[Problem], str],
    meter: Meter,
) -> Judge:
    """Return the judge of a name.

    Args:
        name: "task", "value", "pairwise" or "rubric" (a language model is asked), or module:function.
        source: the folder of the value model, or the name of the language model that is asked; empty takes
            the value model that comes with `policy`, or `policy` itself.
        task: judges, or splits outputs into steps.
        policy: the model that is trained.
        prompt: how a value model sees a problem.
        meter: charged what judging costs.

    Raises:
        UsageError: no such judge, or a model that cannot be one.
    """
    check_name(name)
    if name == "task":
        return task_judge(task)
    if name == "value":
        return value_judge(value_model_for(policy, source), task, prompt, meter)
    if name in _ASKED:
        make, question = _ASKED[name]
        asked = model_named(source) if source else policy
        require_readable(asked, question)
        return make(asked, meter)
    return function_judge(user_function(name, "judge"), meter)


def value_model_for(policy: LanguageModel, source: str = "") -> ValueModel:
    """Return the value model in the folder `source`, or the one that comes with `policy` where it is empty.

    Raises:
        UsageError: there is none.
    """
    if source:
        if not (Path(source).expanduser() / "reader").is_dir():
            raise UsageError(
                f"There is no value model in {source!r}. Give the folder that one was saved to, such as the "
                "folder value of a run of rest-mcts."
            )
        return ValueModel.load(Path(source).expanduser())
    value = shipped_value_model(policy)
    if value is None:
        raise UsageError(
            f"No value model comes with {policy.name!r}. Give the folder of one, such as the folder value of "
            "a run of rest-mcts."
        )
    return value
