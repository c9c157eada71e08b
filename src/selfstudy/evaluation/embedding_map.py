"""A map of embeddings in two dimensions, before and after training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfstudy.evaluation.pictures import Picture, Trace, picture, points

SHOWN = 500  # inputs on the map
FEWEST = 8  # inputs that t-SNE can place
COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000", "#dd8833",
    "#998ec3",
)  # fmt: skip


def flat(features: np.ndarray) -> np.ndarray:
    """Return places [N, 2] at which inputs with like features [N, d] lie together (t-SNE)."""
    from sklearn.manifold import TSNE

    deviation = features.std(0)
    flat_ones = deviation <= 1e-6 * np.abs(features).max()
    scaled = (features - features.mean(0)) / np.where(flat_ones, np.inf, deviation)
    scaled = np.pad(scaled, ((0, 0), (0, max(0, 2 - scaled.shape[1]))))
    # Too few for t-SNE.
    places = scaled[:, :2]
    if len(features) >= FEWEST:
        perplexity = min(30.0, (len(features) - 1) / 3)
        mapping = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=500, n_jobs=1)
        places = mapping.fit_transform(scaled + 1e-6 * np.random.default_rng(0).standard_normal(scaled.shape))
    return places / (np.abs(places).max() or 1.0)


def embedding_map(
    before: np.ndarray, after: np.ndarray, groups: np.ndarray, names: Sequence[str], *, note: str = ""
) -> Picture:
    """Return a map of the same inputs by the features of two models.

    Args:
        before: features [N, d] of the untrained model; at most `SHOWN` inputs are worth drawing.
        after: of the trained one.
        groups: [N], the class of each input from 0, or -1 where unknown.
        names: of the classes.
        note: what is to be seen, in place of the usual.
    """
    traces: list[Trace] = []
    for side, features in (("", before), ("2", after)):
        places = flat(features)
        for group in np.unique(groups):
            at = groups == group
            name = names[group] if group >= 0 else "unlabelled"
            colour = COLOURS[int(group) % len(COLOURS)] if group >= 0 else "#888888"
            marker = {"size": 6, "color": colour, "opacity": 0.8}
            of_side = {"xaxis": f"x{side}", "yaxis": f"y{side}", "legendgroup": name, "showlegend": not side}
            traces.append(points(name, places[at, 0], places[at, 1], marker=marker, **of_side))
    bare = {
        "range": [-1.08, 1.08],
        "showticklabels": False,
        "zeroline": False,
        "showgrid": False,
        "showline": False,
    }
    left, right = {**bare, "domain": [0, 0.48]}, {**bare, "domain": [0.52, 1]}
    return picture(
        "Map of the embeddings, before and after",
        traces,
        note=note
        or "Left before training, right after. Each point is an input that training never saw; near points "
        "have like features (t-SNE). Classes colour the points, the map does not know them.",
        layout={
            "xaxis": {**left, "title": {"text": "before"}},
            "xaxis2": {**right, "title": {"text": "after"}, "anchor": "y2"},
            "yaxis": bare,
            "yaxis2": {**bare, "anchor": "x2"},
            "showlegend": len(np.unique(groups)) > 1,
        },
    )
