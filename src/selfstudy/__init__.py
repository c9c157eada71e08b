"""selfstudy: models that train themselves from their own signals.

The words of the command line, in Python:

    task = selfstudy.task("chain100")
    model = selfstudy.model("tiny-lm")
    fitted = selfstudy.fit("rest-mcts", task="chain100", model="tiny-lm", out="runs/first", rounds=1)
    fitted.model                      # the trained model
    selfstudy.evaluate(task="chain100", model="runs/first/model", solver="majority")
    selfstudy.load("runs/first")      # the same, later

Nothing heavy is imported before one of these functions runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfstudy.core.method import Fit

__version__ = "0.1.0"
__all__ = ["compare", "evaluate", "fit", "load", "model", "task"]


def task(spec: str) -> Any:
    """Return the task named by `spec`: built in, such as "chain100", or a file, such as "jsonl:mine.jsonl".

    Raises:
        UsageError: no task has that name.
        DataError: the data cannot be read.
    """
    from selfstudy.tasks.loading import task as load_task

    return load_task(spec)


def model(spec: str) -> Any:
    """Return the model named by `spec`.

    It is "tiny-lm", a hub id, a folder, a GGUF file, a small model, or `openai:` and a server's address.

    Raises:
        UsageError: there is no such model.
    """
    from selfstudy.models.loading import model as load_model

    return load_model(spec)


def fit(
    method: str,
    *,
    task: Any = None,
    model: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    budget: str | dict[str, float] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    ray: str | None = None,
    **fields: Any,
) -> Fit:
    """Train `model` on `task` by `method`, in a directory that survives being killed, and evaluate it.

    Calling it again with the same settings continues a run that was cut off, or reads back a finished one.

    Args:
        method: its name in the index, such as "rest-mcts".
        task: a name as for `task`, or a task; None is the method's own, if it has one.
        model: a name as for `model`, or a model; None is the method's own.
        out: the run's directory; None makes runs/METHOD-TASK-N.
        seed: the root of all random draws.
        budget: upper limits, such as "tokens=2e6" or {"generated_tokens": 2e6}; None is unlimited.
        train_limit: training problems used, the first ones; None is all.
        test_limit: test problems of the evaluation; None is all.
        ray: where batches of problems go to Ray workers: "local", "auto" or "HOST:PORT"; None works in this
            process. The results are the same.
        fields: the method's hyper-parameters; nested ones as dictionaries.

    Raises:
        UsageError: an unknown name or field, or a directory that holds another run.
    """
    from selfstudy.app.fitting import fit as fit_method

    return fit_method(
        method,
        task,
        model,
        out=out,
        seed=seed,
        budget=budget,
        fields=fields,
        train_limit=train_limit,
        test_limit=test_limit,
        ray=ray,
    )


def compare(
    *methods: str,
    task: str,
    model: str | None = None,
    budget: str | dict[str, float] | None = None,
    seeds: int = 5,
    out: str | Path | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    stop_hopeless: float | None = None,
    target: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
    fields: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Fit each method with each seed on one budget; return accuracies and paired differences as JSON data.

    Args:
        methods: names in the index.
        task: the task's name.
        model: the model's name; None is the one that all of them start from.
        budget: the limits each fit gets; None is the samples that the most demanding settings ask for.
        seeds: how many seeds, 0 upwards.
        out: the directory; None makes runs/compare-TASK-N.
        train_limit: training problems used; None is all.
        test_limit: test problems of the evaluations; None is all.
        stop_hopeless: after the first seed, end runs whose learning curve on validation items stays so many
            points below the best of the first seed; None ends none.
        target: figure on validation items whose cost is told; None is what the weakest method reaches in half
            of its runs.
        workers: fits at the same time, each in a process of its own; None is one a core, or one where there
            is an accelerator or `ray`.
        ray: as for `fit`.
        fields: hyper-parameters by method name.
    """
    from selfstudy.app.comparing import compare as compare_methods

    return compare_methods(
        methods,
        task,
        model,
        budget=budget,
        seeds=seeds,
        out=out,
        fields=fields,
        train_limit=train_limit,
        test_limit=test_limit,
        stop_hopeless=stop_hopeless,
        target=target,
        workers=workers,
        ray=ray,
    )


def evaluate(
    *,
    task: Any,
    model: Any = "tiny-lm",
    solver: str = "greedy",
    samples: int = 8,
    value: str | Path | None = None,
    split: str = "test",
    test_limit: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    budget: str | dict[str, float] | None = None,
    ray: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Answer the problems of `task` by a language model; return the summary as JSON data.

    Calling it again with the same settings continues what was cut off, or reads back what is finished.

    Args:
        task: a name as for `task`, or a task, with checkable answers.
        model: a name as for `model`, or a model; also the folder of a trained one, such as runs/first/model.
        solver: "greedy", "majority", "best", "weighted", "mcts" or "tot".
        samples: solutions drawn for each problem by "majority", "best" and "weighted".
        value: folder of a value model; None is the one of the model's run, or shipped with it.
        split: "train", "validation" or "test".
        test_limit: problems answered; None is all.
        out: the run's directory; None makes runs/SOLVER-TASK-N.
        seed: the root of all random draws.
        budget: upper limits, as for `fit`.
        ray: as for `fit`.
        fields: other settings of the answering; those of the searches as dictionaries.

    Raises:
        UsageError: an unknown name or field, a solver without its value model, or a directory that holds
            another run.
        BudgetSpent: not one batch of problems is covered by the budget.
    """
    from selfstudy.app.answering import answers

    return answers(
        task,
        model,
        out=out,
        budget=budget,
        ray=ray,
        fields={"solver": solver, "samples": samples, **fields},
        value=None if value is None else str(value),
        split=split,
        test_limit=test_limit,
        seed=seed,
    )


def load(directory: str | Path) -> Any:
    """Return the trained model of the finished run in `directory`.

    Raises:
        UsageError: there is no finished run.
    """
    from selfstudy.app.saving import load as load_run

    return load_run(directory)
