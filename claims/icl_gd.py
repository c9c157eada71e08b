"""What icl-gd claims: trained linear attention is gradient descent, and deeper models are GD++.

The distribution is the paper's: 10 dimensions, 10 examples, inputs uniform in (-1/2, 1/2), weights N(0, 1),
no noise. Every seed has other first weights, training problems and held-out problems; all predictors are
measured on the same 10,000 of these, errors without a half. Settings are the authors' but for fewer steps.
"""

from __future__ import annotations

from typing import Any

import selfstudy
from selfstudy.core.run import Run
from selfstudy.evaluation.alignment import alignment, squared_errors
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.methods.mechanisms.icl_gd import DESCENT, FEATURES, MODEL, IclGd
from selfstudy.models.in_context.predictors import gradient_descent

TASK = "in-context-regression"
ERROR = "squared error"
GAP = 0.02  # share of gradient descent's error
UNIFORM_DEVIATION = 12**-0.5
STEPS = 2500  # of training deeper models
FEATURES_FIELDS = "responses=sine&dimensions=1&range=10"


def trained(seed: int, run: Run, layers: int, **fields: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model of so many layers and the metrics of its comparison."""
    model = selfstudy.model(f"linear-attention?layers={layers}&seed={seed}")
    task = selfstudy.task(f"{TASK}?seed={seed}")
    fitted = IclGd(**fields).fit(task.metered(run.meter), model, run)
    return fitted.model, fitted.metrics


def one_layer(seed: int, run: Run) -> Values:
    """Measure one layer against one step."""
    _, found = trained(seed, run, 1)
    averaged = abs(found["averaged weights"][ERROR] / found[DESCENT][ERROR] - 1)
    gap = abs(found["gaps"][DESCENT])
    alike = found["alignment"][DESCENT]
    return {
        "error of the layer": found[MODEL][ERROR],
        "error of gradient descent": found[DESCENT][ERROR],
        "error of averaged weights": found["averaged weights"][ERROR],
        "error of predicting zero": found["zero"][ERROR],
        "2 % less the gap": GAP - gap,
        "2 % less the gap of averaged weights": GAP - averaged,
        "cosine": alike["cosine"],
        "distance of sensitivities": alike["model_difference"],
        "difference of predictions": alike["prediction_difference"],
    }


def deeper(seed: int, run: Run, layers: int) -> Values:
    """Measure a recurrent model against as many steps of descent and of GD++."""
    _, found = trained(seed, run, layers, steps=STEPS)
    plain, curved = found["alignment"][DESCENT], found["alignment"]["GD++"]
    return {
        "error of the model": found[MODEL][ERROR],
        "error of gradient descent": found[DESCENT][ERROR],
        "error of GD++": found["GD++"][ERROR],
        "cosine to gradient descent": plain["cosine"],
        "cosine to GD++": curved["cosine"],
        "difference to gradient descent": plain["prediction_difference"],
        "difference to GD++": curved["prediction_difference"],
    }


def elsewhere(seed: int, run: Run) -> Values:
    """Measure one layer, and the step that is best where it was trained, on other problems."""
    model, found = trained(seed, run, 1)
    values: Values = {}
    by_range = found["departures"]["range of inputs"]
    pairs = zip(by_range["at"], by_range[MODEL], by_range[DESCENT], strict=True)
    ratios = {at: ours / theirs for at, ours, theirs in pairs}
    values |= {f"ratio at range {at:g}": ratio for at, ratio in ratios.items()}
    inner = [ratio for at, ratio in ratios.items() if 0.5 <= at <= 1.5]
    values["largest ratio below 1.25 by"] = 1.25 - max(inner)
    values["smallest ratio above 0.8 by"] = min(inner) - 0.8
    for name in ("weight scale", "corrupted targets", "kind of inputs"):
        curve = found["departures"][name]
        for at, ours, theirs in zip(curve["at"], curve[MODEL], curve[DESCENT], strict=True):
            values[f"ratio at {name} {at}"] = ours / theirs
    step = gradient_descent(found["descent"]["step"])
    for name, more in (("random targets", ""), ("their own target", "&target=target")):
        # Rows as wide as the inputs the model knows.
        rows = selfstudy.task(f"{TASK}?table=diabetes&range={UNIFORM_DEVIATION}&seed={seed}{more}")
        batch = rows.held_out("test", 10_000)
        ours, theirs = (float(squared_errors(who, batch).mean()) for who in (model, step))
        values[f"diabetes rows, {name}: ratio"] = ours / theirs
        values[f"diabetes rows, {name}: cosine"] = alignment(model, step, batch).cosine
    return values


def other_forms(seed: int, run: Run) -> Values:
    """Measure attention on learned features of sines, and on tokens of inputs and targets apart."""
    waves = selfstudy.task(f"{TASK}?{FEATURES_FIELDS}&seed={seed}").metered(run.meter)
    embedded = selfstudy.model(f"embedded-attention?seed={seed}")
    shorter = IclGd(steps=1500, batch=512, clip=100.0)
    sines = run.stage("sines", lambda: shorter.fit(waves, embedded, run).metrics)
    pairs = selfstudy.task(f"{TASK}?seed={seed}").metered(run.meter)
    apart = selfstudy.model(f"paired-tokens?seed={seed}")
    longer = IclGd(steps=3000, batch=512, clip=10.0, learning_rate=1e-3)
    tokens = run.stage("tokens", lambda: longer.fit(pairs, apart, run).metrics)
    alike = sines["alignment"][FEATURES]
    return {
        "sines: error of the model": sines[MODEL][ERROR],
        "sines: error of descent on learned features": sines[FEATURES][ERROR],
        "sines: error of descent on the inputs": sines[DESCENT][ERROR],
        "sines: cosine to descent on learned features": alike["cosine"],
        "sines: difference to descent on learned features": alike["prediction_difference"],
        "tokens: error of the model": tokens[MODEL][ERROR],
        "tokens: error of gradient descent": tokens[DESCENT][ERROR],
        "tokens: cosine to gradient descent": tokens["alignment"][DESCENT]["cosine"],
        **{f"tokens: taken from {whom}": taken for whom, taken in tokens["copying"].items()},
    }


def _deeper_claim(layers: int) -> Claim:
    return Claim(
        name=f"R2-{layers}-layers",
        statement=f"{layers} layers that share their weights do better than {layers} steps of gradient "
        "descent with the best step, and are nearer to GD++.",
        seeds=range(5),
        measure=lambda seed, run: deeper(seed, run, layers),
        relations=[
            Relation("lower error than gradient descent", "error of gradient descent", "error of the model"),
            Relation("nearer to GD++ by sensitivities", "cosine to GD++", "cosine to gradient descent"),
            Relation("nearer to GD++ by predictions", "difference to gradient descent", "difference to GD++"),
        ],
        share=False,
    )


CLAIMS = [
    Claim(
        name="R1-one-layer",
        statement="One trained layer of linear attention has the error of the best step of gradient descent "
        "within 2 % and its sensitivities (cosine 0.99); a layer halfway between its weights and the "
        "construction's has that error too.",
        seeds=range(5),
        measure=one_layer,
        relations=[
            Relation("error within 2 %", "2 % less the gap", 0.0),
            Relation("cosine of sensitivities", "cosine", 0.99),
            Relation("error of averaged weights within 2 %", "2 % less the gap of averaged weights", 0.0),
        ],
        share=False,
    ),
    _deeper_claim(2),
    _deeper_claim(5),
    Claim(
        name="R3-elsewhere",
        statement="Away from its training problems the layer stays as good as the step of gradient descent:"
        " the ratio of errors is within 0.8 and 1.25 for ranges of inputs from 0.5 to 1.5.",
        seeds=range(5),
        measure=elsewhere,
        relations=[
            Relation("not above 1.25", "largest ratio below 1.25 by", 0.0),
            Relation("not below 0.8", "smallest ratio above 0.8 by", 0.0),
        ],
        share=False,
    ),
    Claim(
        name="R4-other-forms",
        statement="With features below it the layer regresses on them, better than descent on the inputs. "
        "Where inputs and targets are tokens apart, the first layer takes more from the token with its "
        "target than from others.",
        seeds=range(5),
        measure=other_forms,
        relations=[
            Relation(
                "features are better than inputs",
                "sines: error of descent on the inputs",
                "sines: error of the model",
            ),
            Relation("copies its target", "tokens: taken from next", "tokens: taken from other"),
        ],
        share=False,
    ),
]
