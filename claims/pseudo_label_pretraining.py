"""What pseudo-labels before the true ones are worth: digits with a perceptron, AG News with a small BERT.

Digits: 500 test images, the rest is the pool; the numbers of pixels, a perceptron 64-256-256-10 with dropout
0.2, AdamW. Teacher and pseudo-labels take 600 steps of 64 at 1e-3, the last stage 200 at 3e-4. Split, labels
and first weights change with the seed.

AG News: B is a BERT of 3 layers and width 128 that learnt to tell hidden words of the training texts and of
WikiText-2. It is made once, and every arm starts from it. The pool are the 9,000 training texts of the file
that we have, 2,000 others are the test; 20 labels a class, or 500. Labels, heads and the order of texts
change with the seed. A fifth of the labels tells when to stop, in the base too.

"base, longer" takes as many steps on the true labels as the method takes in all. "better base" is the better
of both on validation texts, and "better of dapt and self-train" likewise. Stages that arms have in common are
done once. Settings were chosen on validation texts with seeds from 100 on; see `SETTINGS`.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import selfstudy
from selfstudy.core.errors import DataError
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.image_sets import image_splits
from selfstudy.data.items import Texts
from selfstudy.data.library import library_file
from selfstudy.data.text_sets import text_splits
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.learning.masked_language import MaskedLanguage, learn_words
from selfstudy.learning.stages import StageTraining
from selfstudy.methods.pseudolabels.pseudo_label_pretraining import PseudoLabelPretraining
from selfstudy.models.encoders.small_bert import SmallBert
from selfstudy.tasks.pools import PoolTask, pool_task

BASE, LONGER, BETTER, METHOD = "base", "base, longer", "better base", "method"
RIVALS = "better of dapt and self-train"
POINT = 0.01
DIGITS_TEST = 500
FEW, MANY, CLASSES, TEST = 20, 500, 4, 2000
WORDS = MaskedLanguage(steps=900, batch=32, learning_rate=1e-3)
SETTINGS = PseudoLabelPretraining(
    teaching=StageTraining(steps=120, batch=32, learning_rate=5e-4, schedule="linear"),
    pretraining=StageTraining(steps=200, batch=32, learning_rate=1e-3, schedule="linear"),
    tuning=StageTraining(steps=60, batch=32, learning_rate=3e-4, schedule="linear"),
    adaptation=MaskedLanguage(steps=200, batch=32, learning_rate=1e-3),
)
RECIPES = ("base", "dapt", "self-train", "mix", "continue", "method", "upper")


def arms(plan: PseudoLabelPretraining, task: PoolTask, start: Any, run: Run, split: str) -> Values:
    """Return the accuracy of every arm on a split, and on validation items where there are any."""

    def accuracy(model: Any, where: str) -> float:
        return float(np.mean(task.evaluate(model, split=where).values))

    def arm(recipe: str, teaching: StageTraining, arm_run: Run) -> Values:
        method = replace(plan, recipe=recipe, teaching=teaching)  # type: ignore[arg-type]
        found = method.trained(task.metered(arm_run.meter), start, arm_run)
        told = {"": accuracy(found.final, split)}
        if len(task.validation):
            told[", validation"] = accuracy(found.final, "validation")
        return told

    stages = (plan.teaching, plan.pretraining, plan.tuning)
    longer = replace(plan.teaching, steps=sum(stage.steps for stage in stages))
    values: Values = {}
    with Run(run.directory.parent / f"{run.directory.name}-longer", {}, seed=run.seed) as other:
        values |= {f"{LONGER}{what}": figure for what, figure in arm("base", longer, other).items()}
    for recipe in RECIPES:
        if recipe == "dapt" and not isinstance(task.pool, Texts):
            continue
        values |= {f"{recipe}{what}": figure for what, figure in arm(recipe, plan.teaching, run).items()}
    return values


# Digits.


def digits_task(per_class: int, seed: int) -> PoolTask:
    """Return the digits with a test split of the seed's own."""
    splits = image_splits("digits")
    from selfstudy.data.image_sets import ImageSet

    images = np.concatenate([np.asarray(part.images) for part in splits.values()])
    labels = np.concatenate([part.labels for part in splits.values()])
    whole = ImageSet("digits", images, labels, splits["train"].classes)
    order = generator("digits", "split", seed).permutation(len(whole))
    held = {"test": whole.only(order[:DIGITS_TEST]), "validation": whole.only(order[:0])}
    parts = {"train": whole.only(np.sort(order[DIGITS_TEST:])), **held}
    return pool_task("digits", dict(parts), labels=10 * per_class, draw=seed)


def digits_seed(seed: int, run: Run, per_class: int) -> Values:
    """Return the arms on digits."""
    task = digits_task(per_class, seed)
    start = task.prepared(selfstudy.model("flat"))
    place = run.directory / "arms"
    with Run(place, {}, seed=seed) as inner:
        return arms(PseudoLabelPretraining(), task, start, inner, "test")


# AG News.


def general_model(folder: Path) -> SmallBert:
    """Return B, made in a run of its own and only once."""
    texts = (*text_splits("ag-news")["train"].texts, *wiki_text())
    start = SmallBert().made_for(Texts("general", texts, np.zeros(len(texts), dtype=np.int64)))
    with Run(folder, {}) as run:
        return run.stage("words", lambda: learn_words(run, start, texts, WORDS))


def wiki_text() -> list[str]:
    """Return the paragraphs of WikiText-2 that are no titles, of the files that we have."""
    found = []
    for part in ("valid", "test"):
        path = library_file(f"wikitext2/{part}.txt.gz")
        if path is None:
            raise DataError(
                "WikiText-2 is not on this machine: set $SELFSTUDY_DATA to a folder with wikitext2/."
            )
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found += [line.strip() for line in file if line.strip() and not line.startswith(" =")]
    return found


def texts_seed(seed: int, beside: Run, split: str = "test") -> Values:
    """Return all arms with few labels and with many; kept beside the claims, which share them."""
    place = beside.directory.parents[1]
    start = general_model(place / "general")
    values: Values = {}
    for name, per_class in (("few", FEW), ("many", MANY)):
        task = selfstudy.task(f"pool:ag-news?labels={CLASSES * per_class}&draw={seed}&test={TEST}")
        with Run(place / "trainings" / f"seed-{seed}-{name}", {}, seed=seed) as run:
            found = arms(SETTINGS, task, start, run, split)
        better = max((LONGER, BASE), key=lambda arm: found[f"{arm}, validation"])
        rival = max(("dapt", "self-train"), key=lambda arm: found[f"{arm}, validation"])
        found |= {BETTER: found[better], RIVALS: found[rival]}
        found["gain"] = found[METHOD] - found[BETTER]  # type: ignore[operator]
        found[f"{BETTER}, plus 1 point"] = found[BETTER] + POINT  # type: ignore[operator]
        values |= {
            f"{arm}, {name}": figure for arm, figure in found.items() if not arm.endswith("validation")
        }
    return values


CLAIMS = [
    Claim(
        name="R1-digits",
        statement="On digits with 2 labels a class, pseudo-labels and then the true ones are better than the "
        "true ones alone.",
        seeds=range(10),
        measure=lambda seed, run: digits_seed(seed, run, 2),
        relations=[Relation("over the base", METHOD, BASE)],
    ),
    *(
        Claim(
            name=f"R1-digits-{per_class}",
            statement=f"The same with {per_class} labels a class, where the paper has smaller gains.",
            seeds=range(10),
            measure=lambda seed, run, per_class=per_class: digits_seed(seed, run, per_class),  # type: ignore[misc]
            relations=[Relation("over the base", METHOD, BASE)],
        )
        for per_class in (5, 20)
    ),
    Claim(
        name="R1-texts",
        statement="With 20 labels a class of AG News the method is a point better than the better base of as "
        "many steps or fewer, and with 500 it gains less.",
        seeds=range(5),
        measure=texts_seed,
        relations=[
            Relation("over the better base", f"{METHOD}, few", f"{BETTER}, few"),
            Relation("by a point", f"{METHOD}, few", f"{BETTER}, plus 1 point, few"),
            Relation("gains less with many labels", "gain, few", "gain, many"),
        ],
    ),
    Claim(
        name="R2-rivals",
        statement="With 20 labels a class of AG News the method is no worse than the better of two "
        "simpler ones: hidden words of the pool before the true labels, and pseudo-labels alone.",
        seeds=range(5),
        measure=texts_seed,
        relations=[Relation("over the better rival", f"{METHOD}, few", f"{RIVALS}, few")],
    ),
]
