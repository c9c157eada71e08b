"""What an endless learning rate is worth on a stream: encyclopedia, word problems, programs.

A Llama over bytes of two layers and 246,336 weights reads WikiText-2, then GSM8K, then functions of Python's
standard library, up to 1.5 MB each, split by document. Every domain gets 180 updates of 16 windows of 96
bytes by AdamW, whose moments go on. Under the infinite schedule the last 27 of them anneal a copy that is
evaluated and then put aside: every arm spends as many updates, and what the infinite one keeps has seen 15 %
fewer.
All arms of a seed have the same first weights and the same windows. Losses are in nats per byte on held-out
test excerpts, lower is better; forgetting is that of the first domain.

Set on validation excerpts of the first two domains with seed 100, three peaks for each schedule: after both
the cosine had a mean loss of 2.406, 2.357 and 2.542 at peaks of 0.00075, 0.0015 and 0.003, the infinite
schedule 2.317, 2.279 and 2.465. Both take 0.0015. The plateau of 0.75 was given.

The models are far from convergence, so a higher mean rate is an advantage by itself: a cosine at 1.5 times
its peak, a constant rate, and plateaus of 0.3 and 1 of the peak stand beside. All claims read the same
trainings.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.forgetting import LossMatrix
from selfstudy.learning.continual import continual_pretrain
from selfstudy.learning.stream_batches import ContinualTraining
from selfstudy.learning.stream_schedules import StreamSchedule

TRAINING = ContinualTraining(steps=180, batch=16, context=96)
PEAK = 1.5e-3
INFINITE, COSINE = "infinite, plateau 0.75", "repeated cosine"
ARMS = {
    COSINE: StreamSchedule(name="repeated-cosine", peak=PEAK),
    INFINITE: StreamSchedule(peak=PEAK, plateau=0.75),
    f"{COSINE}, 1.5 times the peak": StreamSchedule(name="repeated-cosine", peak=1.5 * PEAK),
    "constant": StreamSchedule(name="constant", peak=PEAK),
    "infinite, plateau 0.3": StreamSchedule(peak=PEAK, plateau=0.3),
    "infinite, plateau 1": StreamSchedule(peak=PEAK, plateau=1.0),
}
UNBRANCHED = f"{INFINITE}, without branches"


def figures(seed: int, beside: Run) -> Values:
    """Return what all arms of a seed reach; they are kept beside the claims, which share them."""
    task = selfstudy.task("domains?items=100")
    start = selfstudy.model(f"byte-lm?seed={seed}")
    tokens = task.tokens(start)
    folder = beside.directory.parents[1] / "trainings" / f"seed-{seed}"
    arms = {name: (schedule, True) for name, schedule in ARMS.items()}
    arms[UNBRANCHED] = (ARMS[INFINITE], False)
    values: Values = {}
    for place, (name, (schedule, branch)) in enumerate(arms.items()):
        settings = ContinualTraining(**{**vars(TRAINING), "branch": branch})
        with Run(folder / f"arm-{place}", {"arm": name}, seed=seed) as run:
            found = continual_pretrain(
                run, start, tokens, partial(task.by_domain, split="test"), schedule, settings
            )
        matrix = LossMatrix(math.log(2) * np.array(found.losses))
        values[name] = matrix.final_average
        values[f"{name}: first domain"] = float(matrix.losses[-1, 0])
        values[f"{name}: forgetting"] = matrix.forgetting[0]
        values[f"{name}: adaptation"] = float(np.mean(matrix.adaptation))
    return values


CLAIMS = [
    Claim(
        name="R1-final-average",
        statement="On a stream of three kinds of text, with as many updates, the mean loss over all of them "
        "at the end is lower under the infinite schedule than under a cosine in each.",
        seeds=range(5),
        measure=figures,
        relations=[Relation("cosine's loss above the infinite schedule's", COSINE, INFINITE)],
        share=False,
    ),
    Claim(
        name="R1-first-domain",
        statement="The first kind of text is not the price: its loss at the end is lower too.",
        seeds=range(5),
        measure=figures,
        relations=[
            Relation(
                "cosine's loss on the first domain above the infinite schedule's",
                f"{COSINE}: first domain",
                f"{INFINITE}: first domain",
            )
        ],
        share=False,
    ),
]
