"""How much weight the labels should have beside a teacher's outputs, from two fits and a closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from selfstudy.core.errors import DataError

SAME = 1e-12  # of the squared size of the labels; two fits closer than this are one fit
CONVEX = (0.0, 1.0)


def estimate_alpha(
    first: ArrayLike,
    distilled: ArrayLike,
    truth: ArrayLike,
    *,
    clip: tuple[float, float] | None = CONVEX,
) -> float:
    """Return the weight of the labels that is best on held-out items: the least-squares mix of two fits.

    A fit distilled with weight alpha of the labels is alpha f + (1 - alpha) g, where f was fitted to the
    labels and g to a teacher's outputs alone; exactly so for kernel ridge regression, about so for networks.
    Its squared error is least at

        alpha = <y - g, f - g> / |f - g|^2,

    summed over items and outputs (Borup and Andersen 2021, arXiv 2102.13088).

    >>> estimate_alpha([1.0, 0.0], [0.0, 0.0], [0.25, 3.0])
    0.25

    Args:
        first: f, outputs of the fit to the labels, [V] or [V, C].
        distilled: g, outputs of the fit to the teacher alone, alike.
        truth: y, labels of the same held-out items, alike; classes are one-hot.
        clip: least and greatest weight; (0, 1) mixes, None also goes beyond both fits.

    Returns:
        The weight; 1 where the two fits are the same, since then it does not matter.

    Raises:
        DataError: no items, shapes that differ, or a value that is not finite.
    """
    f, g, y = (np.asarray(given, dtype=np.float64) for given in (first, distilled, truth))
    if not f.shape == g.shape == y.shape or not f.size:
        raise DataError(
            f"The weight of the labels is told from outputs and labels of the same held-out items, at least "
            f"one; the shapes are {f.shape}, {g.shape} and {y.shape}."
        )
    if not all(np.isfinite(given).all() for given in (f, g, y)):
        raise DataError("An output or a label is not finite, so that no weight of the labels can be told.")
    apart = float(np.sum((f - g) ** 2))
    if apart <= SAME * float(np.sum(y**2)):
        return 1.0
    found = float(np.sum((y - g) * (f - g))) / apart
    return found if clip is None else min(max(found, clip[0]), clip[1])
