"""Walks as fluent text by a language model, what was lost in it, and votes on finished solutions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.data.walks import Item, Returns
from selfstudy.models.language.backends import Policy, open_sampler
from selfstudy.models.language.sampling import Request
from selfstudy.search.reasoning import SEPARATOR, Steps

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

REWRITE = """\
Rewrite the notes on a problem as one fluent solution, one thought a line, without blank lines. Keep every \
step and every mistake. Where the notes go back, doubt what you have, judge it, and say "I go back to \
step k" with the same k.

Problem: Mia had 12 stickers. She gave 4 away and then bought 7 more. How many has she now?
Notes:
12 - 4 = 8
8 - 7 = 1
The answer is 1.
Wait, is this right so far? No, it cannot be. I go back to step 1.
8 + 7 = 15
The answer is 15.
Solution:
She gives 4 of 12 stickers away, which leaves 12 - 4 = 8.
Then 8 - 7 = 1.
The answer is 1.
Wait, is this right so far? She bought stickers, so there must be more. I go back to step 1.
From the 8 stickers she comes to 8 + 7 = 15.
The answer is 15.

Problem: {question}
Notes:
{walk}Solution:
"""
JUDGE = """\
Problem: {question}
Solution:
{solution}
Is every step of this solution right, and does it answer the problem? Reply with one word, yes or no: """


def require_places(prompt: str, places: Sequence[str], field: str) -> None:
    """Raise `UsageError` when a prompt lacks one of its places."""
    missing = [place for place in places if "{" + place + "}" not in prompt]
    if missing:
        raise UsageError(f"{field} lacks the place {{{missing[0]}}}; it needs {', '.join(places)} in braces.")


def rewritten(
    policy: Policy,
    task: ReasoningTask,
    walks: Sequence[tuple[Problem, Sequence[Item]]],
    returns: Returns,
    meter: Meter,
    *,
    prompt: str,
    keys: Sequence[int],
    temperature: float,
) -> list[str]:
    """Return each walk as the policy tells it, lines without outer blanks.

    Args:
        policy: rewrites.
        task: says how much room a solution has, and what ends one.
        walks: problems with their walks.
        returns: how going back is written.
        meter: counts tokens.
        prompt: with {question} and {walk}.
        keys: the stream of each.
        temperature: of the draws.
    """
    completions = open_sampler(policy, meter).sample(
        [
            Request(
                prompt=policy.prompt(_filled(prompt, question=problem.prompt, walk=returns.write(walk))),
                key=key,
                max_tokens=task.room(problem),
                temperature=temperature,
                stop=task.stop,
            )
            for (problem, walk), key in zip(walks, keys, strict=True)
        ]
    )
    return [
        "".join(line + SEPARATOR for line in task.steps(completion.text))
        if completion.finish != "length"
        else ""
        for completion in completions
    ]


def same_returns(returns: Returns, walk: Sequence[Item], lines: Sequence[str]) -> bool:
    """Tell whether lines go back as often as a walk, in the same order and to the same steps."""
    wanted = [item for item in walk if isinstance(item, int)]
    return wanted == [item for item in returns.read(lines) if isinstance(item, int)]


def unanimous(
    policy: Policy,
    solutions: Sequence[tuple[Problem, Steps]],
    meter: Meter,
    *,
    prompt: str,
    keys: Sequence[Sequence[int]],
    temperature: float,
) -> list[bool]:
    """Tell for each finished solution whether the policy calls it right in every vote.

    Args:
        policy: judges.
        solutions: problems with their steps.
        meter: counts tokens.
        prompt: with {question} and {solution}.
        keys: the streams of the votes on each.
        temperature: of the votes.
    """
    requests = [
        Request(
            prompt=policy.prompt(_filled(prompt, question=problem.prompt, solution=SEPARATOR.join(steps))),
            key=key,
            max_tokens=4,
            temperature=temperature,
            stop=(SEPARATOR,),
        )
        for (problem, steps), row in zip(solutions, keys, strict=True)
        for key in row
    ]
    replies = iter(open_sampler(policy, meter).sample(requests))
    # A list first: all() would stop at the first no, and leave the other votes to the next solution.
    return [all([next(replies).text.strip().lower().startswith("yes") for _ in row]) for row in keys]


def _filled(prompt: str, **texts: str) -> str:
    # Not str.format: questions and prompts may hold braces of their own.
    return re.sub("{(" + "|".join(texts) + ")}", lambda place: texts[place[1]], prompt)
