"""Self-distillation of kernel ridge regression: three forms of one recursion, its limit, its best weight."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.kernel_self_distillation import KernelSelfDistiller
from selfstudy.models.kernels import named_kernel

# The eleven points of Mobahi, Farajtabar and Bartlett 2020, which the authors' notebook takes.
TOY = [
    0.38476636465198066, 1.2333967683416893, 1.33232242218057, 0.69201594888895180, -0.29756145531871736,
    -0.24189291901377769, -0.7964485769175675, -0.9616480167034174, -0.49672509509916934,
    -0.3469066003991437, 0.5589512650600734,
]  # fmt: skip
# By weight of the labels: squared errors of steps 1 to 6 and of the limit, of an independent computation.
ERRORS = {
    0.0: ([0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251], 0.49505),
    0.25: ([0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011], 0.15250),
    0.35: ([0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948], 0.14959),
}


def random_fit(
    seed: int, outputs: int = 0, **fields: object
) -> tuple[KernelSelfDistiller, np.ndarray, np.ndarray]:
    """A fit of 12 rows, its rows and labels."""
    rng = np.random.default_rng(seed)
    rows, labels = rng.normal(size=(12, 2)), rng.normal(size=(12, outputs) if outputs else 12)
    fields = {"lam": 0.3, "centred": False, **fields}
    return KernelSelfDistiller(named_kernel("rbf", 0.5), **fields).fit(rows, labels), rows, labels  # type: ignore[arg-type]


def fresh_rows(count: int = 7) -> np.ndarray:
    return np.random.default_rng(99).normal(size=(count, 2))


def test_the_toy() -> None:
    """Oracle: the numbers of the authors' toy to five decimals; their table headed 0.25 is that of 0.35."""
    grid = np.linspace(0, 1, 101)[:, None]
    truth = np.sin(2 * np.pi * grid[:, 0])
    kernel = named_kernel("rbf", 80.0)
    fit = KernelSelfDistiller(kernel, 0.2, centred=False).fit(np.linspace(0, 1, 11)[:, None], TOY)

    def error(told: np.ndarray) -> float:
        return round(float(np.mean((told - truth) ** 2)), 5)

    for alpha, (steps, limit) in ERRORS.items():
        assert [error(fit.predict(grid, step, alpha)) for step in range(1, 7)] == steps
        assert error(fit.limit(grid, alpha)) == limit


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 8), st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_recursion_sum_and_spectrum(seed: int, step: int, alphas: list[float]) -> None:
    """Oracle: y^(tau) by repeated ridge regression, and for one weight by the sum over powers of A; 1e-10."""
    fit, rows, y = random_fit(seed)
    kernel = fit.kernel(rows, rows)
    inverse = np.linalg.inv(kernel + fit.lam * np.eye(12))
    told, target = y, y
    for at in range(1, step + 1):
        alpha = alphas[at - 2] if at > 1 else 1.0
        target = alpha * y + (1 - alpha) * told
        told = kernel @ inverse @ target
    assert np.allclose(fit.predict(rows, step, alphas), told, atol=1e-10)
    across = fit.kernel(fresh_rows(), rows) @ inverse @ target
    assert np.allclose(fit.predict(fresh_rows(), step, alphas), across, atol=1e-10)
    ridge, alpha = kernel @ inverse, alphas[0]
    power = np.linalg.matrix_power
    direct = alpha * sum((1 - alpha) ** (i - 1) * power(ridge, i) for i in range(1, step + 1))
    direct = direct + (1 - alpha) ** step * power(ridge, step)
    assert np.allclose(fit.predict(rows, step, alpha), direct @ y, atol=1e-10)
    shares = fit.spectrum(step, alpha)
    vectors = fit.decomposed.vectors
    assert np.allclose(vectors @ np.diag(shares) @ vectors.T @ y, direct @ y, atol=1e-10)
    weighed = fit.kernel(fresh_rows(), fit.decomposed.anchors) @ fit.coefficients(step, alpha)
    assert np.allclose(weighed[:, 0], fit.predict(fresh_rows(), step, alpha), atol=1e-10)


def test_labels_alone_and_no_labels() -> None:
    """Oracle: with a weight of 1 all steps are ridge regression, scikit-learn's; with 0 they are A^tau y."""
    fit, rows, y = random_fit(1)
    ridge = KernelRidge(alpha=fit.lam, kernel="rbf", gamma=0.5).fit(rows, y).predict(fresh_rows())
    for step in (1, 2, 5):
        assert np.allclose(fit.predict(fresh_rows(), step, 1.0), ridge)
    kernel = fit.kernel(rows, rows)
    shrunk = kernel @ np.linalg.inv(kernel + fit.lam * np.eye(12))
    assert np.allclose(fit.predict(rows, 4, 0.0), np.linalg.matrix_power(shrunk, 4) @ y)
    assert np.allclose(fit.limit(rows, 0.0), 0)


def test_the_limit() -> None:
    """Oracle: ridge regression with lambda / alpha; each step comes nearer by (1 - alpha) max a at least."""
    fit, rows, y = random_fit(2)
    for alpha in (0.2, 0.7):
        ridge = KernelRidge(alpha=fit.lam / alpha, kernel="rbf", gamma=0.5).fit(rows, y)
        assert np.allclose(fit.limit(fresh_rows(), alpha), ridge.predict(fresh_rows()))
        far = [
            np.linalg.norm(fit.predict(rows, step, alpha) - fit.limit(rows, alpha)) for step in range(1, 9)
        ]
        rate = (1 - alpha) * fit.spectrum(1).max()
        assert all(after <= rate * before + 1e-12 for before, after in itertools.pairwise(far))
        assert np.allclose(fit.spectrum(200, alpha), fit.limit_spectrum(alpha))


def test_sparsification() -> None:
    """Oracle: of two eigenvectors the ratio of what is kept is a power of the first without labels; with them
    it lies between the first and that power, and comes to the limit's, which it may pass on the way."""
    fit, _, _ = random_fit(3)
    first = fit.spectrum(1)[-1] / fit.spectrum(1)[4]
    low, high = fit.decomposed.values[4], fit.decomposed.values[-1]
    for alpha in (0.3, 0.8):
        limit = high * (alpha * low + fit.lam) / (low * (alpha * high + fit.lam))
        for step in range(2, 30):
            kept, alone = fit.spectrum(step, alpha), fit.spectrum(step)
            assert alone[-1] / alone[4] == pytest.approx(first**step)
            assert first < kept[-1] / kept[4] < first**step
        assert kept[-1] / kept[4] == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("outputs", [0, 3])
def test_the_best_weight(outputs: int) -> None:
    """Oracle: a search over 100,001 weights; never worse than the first fit or the teacher alone."""
    fit, _, _ = random_fit(4, outputs)
    held = np.random.default_rng(5).normal(size=(7, outputs) if outputs else 7)
    first, alone = fit.predict(fresh_rows(), 1), fit.predict(fresh_rows(), 3, [0.4, 0.0])
    alpha = fit.optimal_alpha(fresh_rows(), held, 3, None, before=[0.4])
    grid = np.linspace(-20, 20, 100_001)
    mixed = grid[:, None] * first.ravel() + (1 - grid[:, None]) * alone.ravel()
    assert alpha == pytest.approx(grid[((mixed - held.ravel()) ** 2).sum(1).argmin()], abs=4e-4)

    def error(told: np.ndarray) -> float:
        return float(((told - held) ** 2).sum())

    best = fit.predict(fresh_rows(), 3, [0.4, alpha], allow_extrapolation=True)
    assert np.allclose(best, alpha * first + (1 - alpha) * alone)
    assert error(best) <= min(error(first), error(alone))
    assert 0 <= fit.optimal_alpha(fresh_rows(), held, 3, before=[0.4]) <= 1


def test_outputs_are_independent() -> None:
    """Oracle: each column fitted by itself."""
    fit, rows, labels = random_fit(6, 3, centred=True)
    for column in range(3):
        alone = KernelSelfDistiller(fit.kernel, fit.lam).fit(rows, labels[:, column])
        told = fit.predict(fresh_rows(), 3, 0.4)[:, column]
        assert np.allclose(told, alone.predict(fresh_rows(), 3, 0.4))


def test_centring_and_other_penalties() -> None:
    """Oracle: labels moved by a number move predictions by it; another penalty equals a fit with it."""
    fit, rows, y = random_fit(7, centred=True)
    moved = KernelSelfDistiller(fit.kernel, fit.lam).fit(rows, y + 5)
    assert np.allclose(moved.predict(fresh_rows(), 2, 0.3), fit.predict(fresh_rows(), 2, 0.3) + 5)
    other = KernelSelfDistiller(fit.kernel, 2.0).fit(rows, y)
    assert np.allclose(
        fit.with_penalty(2.0).predict(fresh_rows(), 3, 0.1), other.predict(fresh_rows(), 3, 0.1)
    )


def test_a_low_rank_that_is_enough() -> None:
    """Oracle: the exact fit, where the kernel matrix has that rank."""
    rng = np.random.default_rng(8)
    rows, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    exact, low = (KernelSelfDistiller(named_kernel("linear"), 0.5, rank=rank).fit(rows, y) for rank in (0, 5))
    fresh = rng.normal(size=(4, 3))
    assert np.allclose(exact.predict(fresh, 3, 0.2), low.predict(fresh, 3, 0.2))
    assert np.allclose(exact.limit(fresh, 0.2), low.limit(fresh, 0.2))


def test_labels_that_are_all_alike() -> None:
    """Oracle: that number everywhere, and a weight of 1."""
    fit, rows, _ = random_fit(9)
    flat = KernelSelfDistiller(fit.kernel, 0.1).fit(rows, np.full(12, 0.3))
    assert flat.predict(fresh_rows(), 3, 0.2) == pytest.approx(np.full(7, 0.3), abs=0)
    assert flat.optimal_alpha(fresh_rows(), np.ones(7)) == 1


def test_what_is_refused() -> None:
    """Oracle: each fault is named in one sentence, before any work."""
    fit, rows, y = random_fit(10)
    for lam in (0.0, -1.0, np.nan):
        with pytest.raises(UsageError, match="penalty lambda"):
            KernelSelfDistiller(fit.kernel, lam)
        with pytest.raises(UsageError, match="penalty lambda"):
            fit.with_penalty(lam)
    with pytest.raises(UsageError, match="rank is -1"):
        KernelSelfDistiller(fit.kernel, 1.0, rank=-1)
    with pytest.raises(UsageError, match="allow_extrapolation"):
        fit.predict(rows, 2, 1.5)
    with pytest.raises(UsageError, match="needs 2 weights"):
        fit.predict(rows, 3, [0.5])
    with pytest.raises(UsageError, match="first fit is step 1"):
        fit.predict(rows, 0)
    with pytest.raises(UsageError, match="first fit has no teacher"):
        fit.optimal_alpha(rows, y, 1)
    with pytest.raises(UsageError, match="Call fit"):
        KernelSelfDistiller(fit.kernel, 1.0).predict(rows)
    with pytest.raises(DataError, match="No rows are held out"):
        fit.optimal_alpha(rows[:0], y[:0])
    with pytest.raises(DataError, match="The labels have values that are not finite"):
        fit.fit(rows, np.full(12, np.nan))
    with pytest.raises(DataError, match="The rows have values"):
        fit.fit(np.full((12, 2), np.inf), y)
    with pytest.raises(DataError, match="shapes are"):
        fit.fit(rows, y[:5])
    with pytest.raises(DataError, match="Give a rank"):
        KernelSelfDistiller(fit.kernel, 1.0, most_bytes=10).fit(rows, y)
