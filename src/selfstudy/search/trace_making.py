"""Training texts from search trees: which leaves, in which order, told by whom, and what is dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.walks import SYMBOLS, Item
from selfstudy.search.rewriting import JUDGE, REWRITE, require_places, rewritten, same_returns, unanimous
from selfstudy.search.traces import SolutionTree, choose_wrong, linearise

if TYPE_CHECKING:
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

MOST_UNFAITHFUL = 0.3  # share of rewritten traces with another answer beyond which rewriting has failed
SHOWN = 3
DROPPED = {
    "judge": "not called right in every vote (--traces.votes)",
    "length": "longer than a solution may be (solution_tokens of the task)",
    "answer": "without the right answer at their end",
    "returns": "going back otherwise than their walk does (--traces.rewriting)",
}
"""Why a trace is dropped: the first check that it fails."""


@dataclass(frozen=True, kw_only=True)
class TraceMaking:
    """Settings of the step from trees to traces."""

    wrong: tuple[float, ...] = (0.3, 0.4, 0.3)
    """Probabilities of 0, 1, 2, ... wrong leaves in a trace (B). A single 1 makes plain solutions: the
    control "Direct", for every task; more need a task whose solutions can go back."""
    per_tree: int = 1
    """Most traces of one tree; equal ones count once."""
    tokens: int | None = None
    """Traces are taken, one of each tree and then a second, up to so many tokens; None takes all."""
    votes: int = 0
    """Times the model judges a right solution, all of which must be yes; 0 does not ask."""
    judge: str | None = None
    """How it is asked, with the places {question} and {solution}; None takes a question that comes along."""
    rewriter: Literal["template", "model"] = "template"
    """Who writes a trace: a template of the task, or the model, which tells it in its own words."""
    rewriting: str | None = None
    """How the model is asked to, with the places {question} and {walk}; None takes an example that comes
    along."""
    temperature: float = 0.7
    """Of votes and rewriting."""

    def validate(self) -> None:
        """Raise `UsageError` when the fields contradict each other."""
        if not self.wrong or min(self.wrong) < 0 or abs(sum(self.wrong) - 1) > 1e-6:
            raise UsageError(f"wrong is {self.wrong}; give probabilities of 0, 1, 2, ... that add up to 1.")
        if self.per_tree < 1 or self.votes < 0 or (self.tokens is not None and self.tokens < 1):
            raise UsageError("per_tree must be at least 1, votes 0 or more, and tokens at least 1 or absent.")
        if self.temperature <= 0:
            raise UsageError(f"temperature is {self.temperature}; votes and rewriting need one above 0.")
        require_places(self.judge or JUDGE, ("question", "solution"), "judge")
        require_places(self.rewriting or REWRITE, ("question", "walk"), "rewriting")

    @property
    def goes_back(self) -> bool:
        """Whether any trace may hold a wrong leaf."""
        return sum(self.wrong[1:]) > 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """A trace to be made."""

    problem: int
    steps: tuple[str, ...]
    """Of the right solution."""
    walk: list[Item]
    attempt: int


def make_traces(
    task: ReasoningTask,
    model: LanguageModel,
    trees: Sequence[SolutionTree],
    settings: TraceMaking,
    run: Run,
    *,
    batch: int,
) -> dict[str, Any]:
    """Return the traces of trees, and what became of the others.

    Args:
        task: its training problems are those of the trees, in their order.
        model: judges and rewrites, and counts the tokens of a trace.
        trees: one of each problem.
        settings: see there.
        run: streams, records and budget.
        batch: traces made at once.

    Returns:
        "traces", each {"problem": index, "text", "length": in tokens, "wrong": leaves}; "dropped", how many
        by reason; "plain_trees", how many trees had no wrong leaf; "tokens", drawn to judge and rewrite.

    Raises:
        DataError: solutions of one step, or too many rewritten traces with another answer.
    """
    if settings.goes_back:
        _require_steps(trees)

    def enough(done: list[list[dict[str, Any]]]) -> bool:
        kept = sum(one["length"] for records in done for one in records if not one["why"])
        return settings.tokens is not None and kept >= settings.tokens

    plans = list(_plans(task, trees, settings, run))
    work = partial(_make, task, model, settings, run)
    made = run.map_batches("traces", plans, batch, work, until=enough)
    dropped = Counter(one["why"] for one in made if one["why"])
    if dropped["answer"] > MOST_UNFAITHFUL * len(made):
        shown = [one["text"] for one in made if one["why"] == "answer"][:SHOWN]
        raise DataError(
            f"{dropped['answer']} of {len(made)} rewritten traces do not end in the right answer; up to "
            f"{MOST_UNFAITHFUL:.0%} are dropped. Change --traces.rewriting, or write by template. For "
            "example:\n" + "\n---\n".join(shown)
        )
    kept = [one for one in made if not one["why"]]
    return {
        "traces": [
            {name: one[name] for name in ("problem", "text", "length", "wrong")}
            for one in _cut(kept, settings)
        ],
        "dropped": dict(dropped),
        "plain_trees": sum(
            bool(tree.right_leaves()) and not tree.wrong_leaves(tree.right_leaves()[0]) for tree in trees
        ),
        "tokens": sum(one["drawn_tokens"] for one in made),
    }


def _plans(
    task: ReasoningTask, trees: Sequence[SolutionTree], settings: TraceMaking, run: Run
) -> Iterator[_Plan]:
    """Yield one trace of every tree, then a second of every tree, and so on; equal ones once."""
    seen: set[tuple[int, tuple[Item, ...]]] = set()
    right = [tree.right_leaves() for tree in trees]
    for attempt in range(settings.per_tree):
        for i, (tree, leaves) in enumerate(zip(trees, right, strict=True)):
            if not leaves:
                continue
            leaf = leaves[attempt % len(leaves)]
            rng = run.rng("wrong leaves", task.train[i].id, attempt)
            count = int(rng.choice(len(settings.wrong), p=settings.wrong))
            walk = linearise(tree, leaf, choose_wrong(tree, leaf, count, rng))
            if (i, tuple(walk)) not in seen:
                seen.add((i, tuple(walk)))
                yield _Plan(i, tree.path(leaf), walk, attempt)


def _make(
    task: ReasoningTask, model: LanguageModel, settings: TraceMaking, run: Run, plans: Sequence[_Plan]
) -> list[dict[str, Any]]:
    """Return what became of each plan; "why" it was dropped is empty for a trace that stays."""
    returns, problems = task.form.returns or SYMBOLS, [task.train[plan.problem] for plan in plans]
    before = run.meter.snapshot()["generated_tokens"]
    good = _judged(model, settings, run, problems, plans)
    texts = _told(task, model, settings, run, problems, plans)
    drawn = run.meter.snapshot()["generated_tokens"] - before
    end = int(model.end is not None)
    lengths = [len(row) + end for row in model.encode_all(texts, begins=False)]
    lines = [task.steps(text) for text in texts]
    right = task.grades(problems, lines)
    records = []
    for i, plan in enumerate(plans):
        checks = {
            "judge": good[i],
            "length": bool(texts[i]) and lengths[i] <= task.room(problems[i]),
            "answer": right[i] == 1,
            "returns": same_returns(returns, plan.walk, lines[i]),
        }
        records.append(
            {
                "problem": plan.problem,
                "text": texts[i],
                "length": lengths[i],
                "wrong": sum(isinstance(item, int) for item in plan.walk),
                "why": next((name for name, passed in checks.items() if not passed), ""),
                "drawn_tokens": drawn if i == 0 else 0,
            }
        )
    return records


def _judged(
    model: LanguageModel,
    settings: TraceMaking,
    run: Run,
    problems: Sequence[Problem],
    plans: Sequence[_Plan],
) -> list[bool]:
    """Return which right solutions the model finds right too; all where it is not asked."""
    if not settings.votes:
        return [True] * len(plans)
    together = list(zip(problems, plans, strict=True))
    return unanimous(
        model,
        [(problem, plan.steps) for problem, plan in together],
        run.meter,
        prompt=settings.judge or JUDGE,
        keys=[
            [run.key("vote", problem.id, *plan.steps, i) for i in range(settings.votes)]
            for problem, plan in together
        ],
        temperature=settings.temperature,
    )


def _told(
    task: ReasoningTask,
    model: LanguageModel,
    settings: TraceMaking,
    run: Run,
    problems: Sequence[Problem],
    plans: Sequence[_Plan],
) -> list[str]:
    """Return the text of each walk, by the task's template or in the model's words."""
    returns = task.form.returns or SYMBOLS
    if settings.rewriter == "template":
        return [returns.write(plan.walk) for plan in plans]
    together = list(zip(problems, plans, strict=True))
    return rewritten(
        model,
        task,
        [(problem, plan.walk) for problem, plan in together],
        returns,
        run.meter,
        prompt=settings.rewriting or REWRITE,
        keys=[run.key("rewrite", problem.id, plan.attempt) for problem, plan in together],
        temperature=settings.temperature,
    )


def _cut(kept: Sequence[dict[str, Any]], settings: TraceMaking) -> Iterator[dict[str, Any]]:
    """Yield traces until they hold as many tokens as asked for."""
    total = 0
    for one in kept:
        if settings.tokens is not None and total >= settings.tokens:
            return
        total += one["length"]
        yield one


def _require_steps(trees: Sequence[SolutionTree]) -> None:
    """Raise `DataError` when every right solution is a single step: there is nothing to go back to."""
    leaves = [(tree, leaf) for tree in trees for leaf in tree.right_leaves()]
    if leaves and all(len(tree.line(leaf)) == 1 for tree, leaf in leaves):
        tree, leaf = leaves[0]
        raise DataError(
            f"Every right solution is a single step, such as {tree.path(leaf)[0]!r}: going back is not "
            "defined. Let the model write one step a line (the task's preamble or instruction), or make "
            "plain traces (--traces.wrong 1)."
        )
