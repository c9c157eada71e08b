"""Pictures of attention in training: where it goes, token by token, and when it stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.data.cooccurrence import Cooccurrence
from selfstudy.evaluation.attention import attention_composition, class_logits
from selfstudy.evaluation.attention_trace import AttentionTrace, Dynamics
from selfstudy.evaluation.pictures import Picture, bars, heatmap, line, moving_picture, picture, points

MOST_FRAMES = 50
MOST_TOKENS = 40  # bars of a picture
MOST_LINES = 10  # tokens with a line of their own
MOVING = 2  # classes with a moving picture
QUERIES = 16  # last tokens in the picture of queries
COMMON, DISTINCT, SHARE = "#d1495b", "#2f72d6", "#8d8d8d"
Runs = Sequence[tuple[float, float, AttentionTrace]]


def attention_pictures(
    dynamics: Dynamics, table: Cooccurrence, figures: dict[str, Any], runs: Runs
) -> list[Picture]:
    """Return the pictures of a training's report.

    Args:
        dynamics: of the training.
        table: P(l | m, n) it was recorded with.
        figures: as of `Dynamics.figures`.
        runs: (attention rate, decoder rate, trace) of it and of what it is compared with.
    """
    trace, watched = dynamics.trace, table.watched(MOVING)
    logits = class_logits(dynamics.model, table)
    made = [_masses(trace, table, figures)]
    made += [_moving(trace, table, place, k) for place, k in enumerate(watched)]
    made += [
        _against_cooccurrence(logits, table, figures),
        _queries(logits, table),
        _entropies(runs, figures),
    ]
    rates = [run for run in runs[1:] if run[2].rows]
    return made + ([_map(rates)] if len({(z, y / z) for z, y, _ in rates}) > 3 else [])


def _class(table: Cooccurrence, k: int) -> str:
    return f"last {table.word(int(table.last[k]))!r}, next {table.word(int(table.next[k]))!r}"


def _most(table: Cooccurrence, k: int, which: np.ndarray, count: int) -> np.ndarray:
    """Return the up to `count` most frequent tokens of class k among `which` [K, M], the first most often."""
    order = np.argsort(-table.probabilities[k], kind="stable")
    return order[which[k][order]][:count]


def _masses(trace: AttentionTrace, table: Cooccurrence, figures: dict[str, Any]) -> Picture:
    steps, k = trace.series("step"), table.watched(1)[0]
    of_class = np.array([kept[0] for kept in trace.compositions])  # [R, M]
    traces = [
        line(
            "all common tokens (mean of classes)",
            steps,
            trace.series("common_mass"),
            line={"color": COMMON, "width": 3},
        )
    ]
    tokens = _most(table, k, table.distinct, MOST_LINES)
    for place, token in enumerate(tokens):
        shade = f"rgba(47,114,214,{1 - 0.75 * place / max(1, len(tokens) - 1):.2f})"
        name = f"{table.word(int(token))}, P = {table.probabilities[k, token]:.3f}"
        traces.append(line(name, steps, of_class[:, token], line={"color": shade}))
    return picture(
        "Attention over training",
        traces,
        x="step",
        y="share of attention",
        note=f"Red: the mass on common tokens goes from {figures['common mass at the start']:.3f} to "
        f"{figures['common mass']:.3f} and changes by less than 0.01 after step {figures['freeze step']}. "
        f"Blue: distinct tokens of one class ({_class(table, k)}), the stronger the more often they come. "
        f"The largest share of any token in any class is {figures['largest share of one token']:.3f}.",
    )


def _moving(trace: AttentionTrace, table: Cooccurrence, place: int, k: int) -> Picture:
    half = MOST_TOKENS // 2
    common, distinct = (_most(table, k, which, half) for which in (table.common, table.distinct))
    tokens = np.concatenate([common, distinct])
    names = [table.word(int(token)) for token in tokens]
    colours = [COMMON] * len(common) + [DISTINCT] * len(distinct)
    kept = np.unique(np.linspace(0, len(trace.rows) - 1, MOST_FRAMES).round().astype(int))
    top = max(float(trace.compositions[i][place][tokens].max()) for i in kept)
    probabilities = table.probabilities[k, tokens]
    frames = [
        (
            str(trace.rows[i]["step"]),
            [
                bars("attention", names, trace.compositions[i][place][tokens], marker={"color": colours}),
                points(
                    "co-occurrence P",
                    names,
                    probabilities,
                    marker={"symbol": "line-ew-open", "size": 14, "line": {"width": 2, "color": SHARE}},
                ),
            ],
        )
        for i in kept
    ]
    return moving_picture(
        f"Attention by token: {_class(table, k)}",
        frames,
        over="step",
        x="token",
        y="share of attention",
        note="Red bars are common tokens, blue ones distinct tokens, each from frequent to rare. The marks "
        "are what uniform attention would give.",
        layout={"yaxis": {"range": [0, 1.05 * max(top, float(probabilities.max()))]}},
    )


def _against_cooccurrence(logits: np.ndarray, table: Cooccurrence, figures: dict[str, Any]) -> Picture:
    composition = attention_composition(logits, table.probabilities)
    traces = []
    for name, which, colour in (("common", table.common, COMMON), ("distinct", table.distinct, DISTINCT)):
        x, y, text = [], [], []
        for k in table.watched(MOVING):
            for token in _most(table, k, which, 5 * MOST_TOKENS):
                x.append(table.probabilities[k, token])
                y.append(composition[k, token] / table.probabilities[k, token])
                text.append(f"{table.word(int(token))} ({_class(table, k)})")
        text = [word.replace("&", "&amp;").replace("<", "&lt;") for word in text]
        traces.append(points(name, x, y, text=text, marker={"color": colour}))
    found = figures["order correlation of the logits"]
    order = "" if found is None else f" Among distinct tokens the rank correlation of the two is {found:.3f}."
    return picture(
        "Final attention against co-occurrence",
        traces,
        x="co-occurrence P(l | m, n)",
        y="attention, times uniform",
        note="How many times the attention that it has under uniform weights each token came to have."
        + order,
        layout={"yaxis": {"type": "log"}, "xaxis": {"type": "log"}},
    )


def _queries(logits: np.ndarray, table: Cooccurrence) -> Picture:
    after = attention_composition(logits, table.probabilities)
    tokens = table.last[table.watched(QUERIES)]
    names = [table.word(int(m)) for m in tokens]
    rows = [table.last == m for m in tokens]
    traces = []
    for name, shares, opacity in (("uniform", table.probabilities, 0.4), ("trained", after, 1.0)):
        for kind, which, colour in (("common", table.common, COMMON), ("distinct", table.distinct, DISTINCT)):
            mass = (shares * which).sum(1)
            traces.append(
                bars(
                    f"{kind}, {name}",
                    names,
                    [mass[row].mean() for row in rows],
                    marker={"color": colour, "opacity": opacity},
                )
            )
    return picture(
        "Attention of each last token",
        traces,
        x="last token",
        y="share of attention",
        note="Mass on its common and on its distinct tokens, mean over its next tokens, before and after.",
        layout={"barmode": "group"},
    )


def _entropies(runs: Runs, figures: dict[str, Any]) -> Picture:
    traces = [
        line(
            f"rates {z:g} and {y:g}, ratio {y / z:.3g}",
            trace.series("step"),
            trace.series("entropy"),
            line={"width": 4 if i == 0 else 2},
        )
        for i, (z, y, trace) in enumerate(runs)
    ]
    return picture(
        "Entropy of attention over training",
        traces,
        x="step",
        y="entropy of c (nats)",
        note="Each line is a training, named by the rates of attention and decoder and by their ratio. On "
        f"held-out sequences the entropy of attention itself ends at {figures['attention entropy']:.3f}; "
        f"uniform attention has {figures['attention entropy if uniform']:.3f}.",
    )


def _map(runs: Runs) -> Picture:
    final = {(z, round(y / z, 6)): trace.rows[-1]["entropy"] for z, y, trace in runs}
    rates, ratios = sorted({z for z, _ in final}), sorted({ratio for _, ratio in final})
    grid = [[final.get((z, ratio), np.nan) for ratio in ratios] for z in rates]
    return picture(
        "Final entropy by rates",
        [heatmap(grid, [f"{ratio:g}" for ratio in ratios], [f"{z:g}" for z in rates], colorscale="Viridis")],
        x="ratio of the decoder's rate to that of attention",
        y="rate of attention",
        note="Low entropy is sparse attention.",
        layout={"xaxis": {"type": "category"}, "yaxis": {"type": "category"}},
    )
