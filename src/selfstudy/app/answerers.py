"""What answers, and what is answered: the task, the language model and its value model, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.saving import KIND
from selfstudy.core.checkpoint import SUMS, check_sums, find_class
from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json

if TYPE_CHECKING:
    from selfstudy.models.language.backends import Policy
    from selfstudy.models.language.value import ValueModel
    from selfstudy.tasks.reasoning import ReasoningTask


def task_and_model(task_spec: str, spec: str, task: Any, model: Any) -> tuple[ReasoningTask, Policy]:
    """Return both as they are given, or loaded by their specifications.

    Raises:
        UsageError: the task has no problems with checkable answers, or the model does not write.
    """
    from selfstudy import model as load_model
    from selfstudy import task as load_task
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.models.language.served import ServedModel
    from selfstudy.tasks.reasoning import ReasoningTask

    task = load_task(task_spec) if task is None else task
    if not isinstance(task, ReasoningTask):
        raise UsageError(
            f"evaluate answers problems, and {task_spec!r} has none: its models are judged within fit and "
            "compare. Take a task with checkable answers, such as chain100, countdown-4, gsm8k, "
            "gym:chain_sum, or jsonl:mine.jsonl?prompt=q&answer=a&verifier=math."
        )
    model = load_model(spec) if model is None else model
    if not isinstance(model, LanguageModel | ServedModel):
        raise UsageError(
            f"evaluate answers problems by a language model, and {spec!r} is none. Take tiny-lm, a "
            "hub id, a folder, a GGUF file, or openai: and the address of a server."
        )
    return task, model


def value_model(spec: str, given: str | None, model: Policy) -> ValueModel | None:
    """Return a value model, None where there is none.

    Args:
        spec: of the model; a value model that lies beside it in the directory of its run is taken.
        given: the folder of another one.
        model: what is shipped with it comes last.

    Raises:
        UsageError: the folder that is named holds none.
    """
    from selfstudy.models.language.loading import shipped_value_model
    from selfstudy.models.language.model import LanguageModel

    folder = Path(spec.partition("?")[0])
    beside = folder.parent / "value"
    if given:
        return _value_at(Path(given))
    if folder.name == "model" and (folder / KIND).is_file() and (beside / KIND).is_file():
        return _value_at(beside)
    return shipped_value_model(model) if isinstance(model, LanguageModel) else None


def _value_at(folder: Path) -> ValueModel:
    from selfstudy.models.language.value import ValueModel

    if not (folder / "value.json").is_file():
        raise UsageError(
            f"{folder} holds no value model. Give the folder of one, such as runs/first/value of a finished "
            "run of rest-mcts."
        )
    if (folder / SUMS).exists():
        check_sums(folder, f"selfstudy resume {folder.parent} writes it again.")
    kind = find_class(read_json(folder / KIND), folder / KIND) if (folder / KIND).exists() else ValueModel
    value: ValueModel = kind.load(folder)
    return value
