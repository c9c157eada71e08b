"""Reasoning as a search domain: states are solution prefixes, actions are steps (lines of text)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.core.random import derive
from selfstudy.models.language.backends import Policy, open_sampler, require_continuation
from selfstudy.models.language.sampling import Completion, Request, Sampler
from selfstudy.search.domain import State

if TYPE_CHECKING:
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

Steps = tuple[str, ...]
SEPARATOR = "\n"
RETRIES = 3


def posed(policy: Policy, task: ReasoningTask, problem: Problem, hint: str | None = None) -> str:
    """Return a problem as the policy reads it: in its chat template, or after the task's preamble."""
    text = task.prompt(problem, chat=policy.chat, hint=hint)
    return policy.prompt(text, images=len(problem.images)) if problem.images else policy.prompt(text)


def require_room(policy: LanguageModel, task: ReasoningTask) -> None:
    """Raise `DataError` when no training problem fits into the policy's context with a token to spare."""
    lengths = [len(row) for row in policy.encode_all([posed(policy, task, p) for p in task.train])]
    if lengths and min(lengths) >= policy.context:
        raise DataError(
            f"The model {policy.name!r} has a context of {policy.context} tokens, and the shortest training "
            f"prompt of {task.name!r} has {min(lengths)}, which leaves no room for a solution. Take a model "
            "with a longer context, or shorter problems."
        )


def prompt_tokens(task: ReasoningTask, model: LanguageModel) -> float:
    """Return the mean length of the first prompts, for estimates of cost."""
    rows = model.encode_all([posed(model, task, problem) for problem in task.train[:16]])
    return sum(map(len, rows)) / max(1, len(rows))


class Values(Protocol):
    """Scores solution prefixes, in [0, 1]."""

    def values(self, prefixes: Sequence[tuple[str, Sequence[str]]], meter: Meter) -> np.ndarray:
        """Return the value of each (prompt, steps)."""

    def remembering(self) -> Values:
        """Return the same scorer with an empty memory for what it reads."""


class ConstantValue:
    """The same value for every prefix: the guide of a first search when there is no value model yet."""

    def __init__(self, value: float = 0.5) -> None:
        self.value = value

    def values(self, prefixes: Sequence[tuple[str, Sequence[str]]], meter: Meter) -> np.ndarray:
        """Return the constant, once per prefix."""
        return np.full(len(prefixes), self.value)

    def remembering(self) -> ConstantValue:
        """Return itself: there is nothing to remember."""
        return self


class ReasoningDomain:
    """Proposes steps by a policy, values prefixes by a value model, ends them by a self-critic.

    Args:
        task: splits texts into steps and tells their end.
        problems: what the problem indices of the states refer to.
        policy: the language model that proposes, here or behind a server.
        value: scores prefixes; asked once per prefix.
        meter: counts tokens.
        temperature: of the policy.
        critic: "marker" ends a prefix that holds an answer; "ask" also asks the policy.

    Attributes:
        drawn: per problem, every text drawn with its number of tokens: failed retries and critic replies too.
        no_room: per problem, how many draws found no room in the policy's context; they close their prefix.
    """

    def __init__(
        self,
        task: ReasoningTask,
        problems: Sequence[Problem],
        policy: Policy,
        value: Values,
        meter: Meter,
        *,
        temperature: float,
        critic: str = "marker",
        sampler: Sampler | None = None,
    ) -> None:
        require_continuation(policy)
        self.task, self.problems, self.policy, self.meter = task, problems, policy, meter
        # A memory of its own: what it has read must not depend on what was searched before.
        self.value = value.remembering()
        self.temperature, self.critic = temperature, critic
        self.sampler = sampler or open_sampler(policy, meter, remember=True)
        self.drawn: list[list[tuple[str, int]]] = [[] for _ in problems]
        self.no_room = [0] * len(problems)
        self.separated = False
        self._prompts = [posed(policy, task, problem) for problem in problems]
        self._values: dict[State, float] = {}
        self._solved: dict[State, bool] = {}

    def propose(self, states: Sequence[State], n: int, keys: np.ndarray) -> list[list[str]]:
        """Draw `n` next steps for each state; empty, unfinished, repeated ones are redrawn up to 3 times."""
        found: list[list[str]] = [[] for _ in states]
        waiting = [(i, slot) for i in range(len(states)) for slot in range(n)]
        for attempt in range(RETRIES + 1):
            if not waiting:
                break
            counters = np.array([slot * (RETRIES + 1) + attempt for _, slot in waiting])
            draws = derive(keys[[i for i, _ in waiting]], counters)
            completions = self._sample(
                [states[i] for i, _ in waiting], draws, self.task.step_tokens, (SEPARATOR,), self.temperature
            )
            failed = []
            for (i, slot), completion in zip(waiting, completions, strict=True):
                step = "".join(self.task.steps(completion.text))
                if completion.finish in ("stop", "end") and step and step not in states[i][1]:
                    found[i].append(step)
                elif completion.finish == "context":  # no room: drawing again would not help
                    self.no_room[states[i][0]] += 1
                else:
                    failed.append((i, slot))
            waiting = failed
        return found

    def values(self, states: Sequence[State]) -> np.ndarray:
        """Return the value of each state, from the cache where it is known."""
        unknown = list(dict.fromkeys(state for state in states if state not in self._values))
        if unknown:
            scores = self.value.values([(self._prompts[p], path) for p, path in unknown], self.meter)
            self._values.update(zip(unknown, scores.tolist(), strict=True))
        return np.array([self._values[state] for state in states])

    def ended(self, states: Sequence[State]) -> np.ndarray:
        """Tell which states hold a finished solution (the paper's self-critic)."""
        done = np.array(
            [bool(path) and self.task.is_end(self.problems[p], path) for p, path in states], dtype=bool
        )
        if self.critic == "ask":
            asked = [state for state, end in zip(states, done, strict=True) if not end and state[1]]
            self._ask([state for state in dict.fromkeys(asked) if state not in self._solved])
            done |= np.array([self._solved.get(state, False) for state in states], dtype=bool)
        return done

    def finish(
        self, states: Sequence[State], *, keys: np.ndarray | None = None, temperature: float = 0.0
    ) -> list[Steps]:
        """Complete each state to a whole solution; finished ones are returned as they are.

        Args:
            states: any number.
            keys: uint64 [B], the stream of each completion; None is for greedy ones.
            temperature: 0 takes the likeliest tokens.
        """
        open_ = [i for i, end in enumerate(self.ended(states)) if not end]
        completions = self._sample(
            [states[i] for i in open_],
            np.zeros(len(open_), np.uint64) if keys is None else keys[open_],
            self.task.solution_tokens,
            self.task.stop,
            temperature,
        )
        solutions = [path for _, path in states]
        for i, completion in zip(open_, completions, strict=True):
            solutions[i] = (*solutions[i], *self.task.steps(completion.text))
        return solutions

    def _sample(
        self,
        states: Sequence[State],
        keys: np.ndarray,
        tokens: int,
        stop: tuple[str, ...],
        temperature: float,
    ) -> list[Completion]:
        completions = self.sampler.sample(
            [
                Request(
                    prompt=self._prompts[p] + "".join(step + SEPARATOR for step in path),
                    key=int(key),
                    max_tokens=tokens,
                    temperature=temperature,
                    stop=stop,
                    images=self.problems[p].images,
                )
                for (p, path), key in zip(states, keys, strict=True)
            ]
        )
        for (p, _), completion in zip(states, completions, strict=True):
            self.drawn[p].append((completion.text, len(completion.tokens)))
            self.separated |= completion.finish == "stop"
        return completions

    def _ask(self, states: Sequence[State]) -> None:
        """Ask the policy whether each prefix solves its problem; "unsolved" is looked for first."""
        requests = [
            Request(
                prompt=self.policy.prompt(
                    f"{self.problems[p].prompt}{SEPARATOR}{SEPARATOR.join(path)}{SEPARATOR}"
                    "Is the problem solved by these steps? Reply with one word, solved or unsolved: "
                ),
                key=0,
                max_tokens=4,
                temperature=0.0,
                stop=(SEPARATOR,),
            )
            for p, path in states
        ]
        for state, reply in zip(states, self.sampler.sample(requests), strict=True):
            self.drawn[state[0]].append((reply.text, len(reply.tokens)))
            text = reply.text.lower()
            self._solved[state] = "unsolved" not in text and "solved" in text

    def require_separator(self) -> None:
        """Raise `DataError` when no draw has ended with the step separator."""
        if not self.separated and any(self.no_room):
            raise DataError(
                f"The policy's context of {self.policy.context} tokens ended {sum(self.no_room)} times "
                "before a step did, and no step was ever finished. Take a model with a longer context, "
                "shorter problems or a shorter preamble."
            )
        if not self.separated and any(self.drawn):
            text = next(text for draws in self.drawn for text, _ in draws)
            raise DataError(
                f"The policy never ended a step with the separator {SEPARATOR!r}; it wrote for example "
                f"{text[:200]!r}. Fine-tune it on solutions with one step a line, show it such examples "
                "(the task's preamble), or allow longer steps."
            )
