"""Language models as judges: asked about every two outputs, or to give points to all of them at once."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.language.backends import Policy, open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.signals.judges import Contest, Judge

WHICH = (
    "Here is a prompt and two replies.\nPrompt: {prompt}\nReply A:\n{first}\nReply B:\n{second}\n"
    "Which reply is better? Answer with one letter, A or B: "
)
RATE = (
    "Here is a prompt and {count} replies. Give each reply points: 1 if it is relevant, 1 more if it covers "
    "what is asked, 1 more if it is useful, 1 more if it is clear and well organised, 1 more if it is expert "
    "and complete, and 1 more if it could not be better.\nPrompt: {prompt}\n{replies}"
    "Write the {count} scores from 0 to 6 in the order of the replies, separated by blanks: "
)
MOST_POINTS = 6.0


def pairwise_judge(policy: Policy, meter: Meter) -> Judge:
    """Return a judge that asks a language model about every two outputs, in both orders.

    A reply that names neither counts as no preference.

    Args:
        policy: is asked, at temperature 0.
        meter: charged what it reads and writes.
    """

    def judge(contests: Sequence[Contest]) -> list[np.ndarray]:
        sampler = open_sampler(policy, meter)
        places = [
            (at, i, j)
            for at, contest in enumerate(contests)
            for i in range(len(contest.outputs))
            for j in range(len(contest.outputs))
            if i != j
        ]
        questions = [
            WHICH.format(
                prompt=contests[at].problem.prompt,
                first=contests[at].outputs[i],
                second=contests[at].outputs[j],
            )
            for at, i, j in places
        ]
        replies = sampler.sample([_asked(policy, question, 4) for question in questions])
        wins = [np.full((len(c.outputs),) * 2, 0.5) for c in contests]
        for (at, i, j), reply in zip(places, replies, strict=True):
            wins[at][i, j] = chosen_first(reply.text)
        return wins

    return judge


def rubric_judge(policy: Policy, meter: Meter) -> Judge:
    """Return a judge that shows a language model all outputs at once and asks for 0 to 6 points for each.

    An output without a readable score gets the mean of the others, and all get 0 where there is none.

    Args:
        policy: is asked, at temperature 0.
        meter: charged what it reads and writes.
    """

    def judge(contests: Sequence[Contest]) -> list[np.ndarray]:
        questions = []
        for contest in contests:
            replies = "".join(f"Reply {i + 1}:\n{text}\n" for i, text in enumerate(contest.outputs))
            questions.append(
                RATE.format(count=len(contest.outputs), prompt=contest.problem.prompt, replies=replies)
            )
        longest = max(len(contest.outputs) for contest in contests)
        sampler = open_sampler(policy, meter)
        written = sampler.sample([_asked(policy, question, 6 * longest) for question in questions])
        return [points(r.text, len(c.outputs)) for r, c in zip(written, contests, strict=True)]

    return judge


def _asked(policy: Policy, question: str, tokens: int) -> Request:
    return Request(prompt=policy.prompt(question), key=0, max_tokens=tokens, temperature=0.0, stop=("\n",))


def chosen_first(reply: str) -> float:
    """Return 1 for a reply that names A, 0 for B, 1/2 for neither or both.

    >>> chosen_first(" A."), chosen_first("Reply B"), chosen_first("neither"), chosen_first("A or B")
    (1.0, 0.0, 0.5, 0.5)
    """
    named = set(re.findall(r"\b[AB]\b", reply))
    return float(named == {"A"}) if len(named) == 1 else 0.5


def points(reply: str, count: int) -> np.ndarray:
    """Read `count` scores from 0 to 6, [count].

    >>> points("5 3.5 9", 3).tolist()
    [5.0, 3.5, 4.25]
    """
    found = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", reply)[:count]]
    scores = np.array(found + [np.nan] * (count - len(found)))
    scores[scores > MOST_POINTS] = np.nan
    known = ~np.isnan(scores)
    return np.where(known, scores, scores[known].mean() if known.any() else 0.0)


def require_readable(policy: Policy, question: str) -> None:
    """Raise `UsageError` when a model's tokenizer cannot even read the judge's question."""
    if not isinstance(policy, LanguageModel):
        return  # a server reads any text
    try:
        policy.encode(policy.prompt(question))
    except DataError as error:
        raise UsageError(
            f"The model {policy.name!r} cannot be asked to judge: its tokenizer does not know the words of "
            "the question. Take another judge, or a model that reads text as the judge's model."
        ) from error
