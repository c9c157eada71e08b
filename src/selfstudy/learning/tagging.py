"""Training taggers on sentences, counted by the run."""

from __future__ import annotations

from selfstudy.core.run import Run
from selfstudy.data.tagged import TaggedTexts
from selfstudy.models.tagging.base import Tagger


def train_tagger(run: Run, tagger: Tagger, texts: TaggedTexts, *, desc: str = "tagger") -> Tagger:
    """Return a copy of `tagger` trained on `texts` from nothing; where the budget ends, one as it was.

    Args:
        run: within a stage of its own.
        tagger: any; what it has learned is not used.
        texts: at least one sentence.
        desc: names the loop and its random streams.
    """
    learner = tagger.made_for(texts)
    for _ in run.steps(1, state={}, desc=desc, cost=tagging_cost(tagger, texts.words)):
        learner.learn(texts, run.key(desc, "order"))
    return learner


def tagging_cost(tagger: Tagger, words: int) -> dict[str, float]:
    """Return what training on so many words spends, by budget unit: words seen."""
    return {"samples": tagger.passes * words}
