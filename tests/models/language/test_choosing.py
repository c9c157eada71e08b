"""The choice of a token from logits against the distribution function in float64, written out by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from selfstudy.models.language import choosing
from selfstudy.models.language.choosing import BLOCK, choose

SIZES = [1, 2, 17, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 100]
LAST = 1 - 2.0**-53  # the largest number that `uniforms` gives


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    if request.param == "torch":
        monkeypatch.setattr(choosing, "_by_compiled_loops", choosing._by_torch)


def logits_of(rows: int, size: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def chosen(
    logits: torch.Tensor, temperature: float | list[float], uniform: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One draw a row."""
    rows = len(logits)
    temperatures = torch.tensor(temperature, dtype=torch.float64).expand(rows)
    numbers = torch.as_tensor(uniform, dtype=torch.float64).expand(rows)
    token, logprob = choose(logits.clone(), temperatures.clone(), torch.arange(rows), numbers.clone())
    assert (token.shape, token.dtype, logprob.dtype) == ((rows,), torch.int64, torch.float64)
    return token.numpy(), logprob.numpy()


def distribution(logits: torch.Tensor, temperature: float) -> np.ndarray:
    exact = logits.double().numpy() / temperature
    share = np.exp(exact - exact.max(-1, keepdims=True))
    return share / share.sum(-1, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_inverts_the_distribution_function(size: int, temperature: float) -> None:
    """Oracle: float64 cumulative sums; the number lies in the chosen token's piece, to float32's rounding."""
    logits = logits_of(200, size)
    uniform = np.random.default_rng(0).random(200)
    token, logprob = chosen(logits, temperature, uniform)
    ends = distribution(logits, temperature).cumsum(-1)
    row = np.arange(200)
    begins = np.where(token > 0, ends[row, token - 1], 0.0)
    assert (begins - 1e-6 <= uniform).all() and (uniform <= ends[row, token] + 1e-6).all()
    exact = np.array(
        [np.searchsorted(e, u * e[-1], side="right") for e, u in zip(ends, uniform, strict=True)]
    )
    assert (token == exact).mean() > 0.99, "rounding moves few"
    expected = np.log(distribution(logits, 1.0))[row, token]
    np.testing.assert_allclose(logprob, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_zero_takes_the_first_token_with_weight_and_almost_one_the_last(size: int) -> None:
    """Limit: the ends of the range; what cannot be drawn is around what can, in whole blocks."""
    first, last = size // 3, size - 1 - size // 3
    logits = torch.full((3, size), -torch.inf)
    logits[0, first : last + 1] = 0.0
    logits[1, first : last + 1] = logits_of(1, last + 1 - first)[0]
    logits[2, :] = -1e4  # so unlikely that float32 gives it no weight
    logits[2, first : last + 1] = 0.0
    assert chosen(logits, 1.0, 0.0)[0].tolist() == [first] * 3
    assert chosen(logits, 1.0, LAST)[0].tolist() == [last] * 3
    for seed in range(20):
        token, _ = chosen(logits, 0.7, np.random.default_rng(seed).random(3))
        assert ((first <= token) & (token <= last)).all()


@pytest.mark.parametrize("size", [4, BLOCK, 2 * BLOCK])
def test_equal_weights_are_equal_pieces(size: int) -> None:
    """Oracle: by hand: of equal tokens, number k is the one for k / size up to below (k + 1) / size."""
    tokens = np.unique(np.linspace(0, size - 1, 100).round().astype(int))
    logits, edges = torch.zeros(len(tokens), size), tokens / size
    assert chosen(logits, 0.5, edges)[0].tolist() == tokens.tolist()
    assert chosen(logits, 0.5, edges + 0.999 / size)[0].tolist() == tokens.tolist()


@pytest.mark.parametrize("size", SIZES)
def test_greedy_takes_the_first_of_the_likeliest(size: int) -> None:
    """Oracle: numpy's argmax, which gives the first; no number moves it."""
    logits = logits_of(64, size).round()
    token, logprob = chosen(logits, 0.0, np.linspace(0, LAST, 64))
    assert token.tolist() == logits.numpy().argmax(-1).tolist()
    expected = np.log(distribution(logits, 1.0)).max(-1)
    np.testing.assert_allclose(logprob, expected, rtol=0, atol=1e-5)


def test_rows_have_temperatures_of_their_own() -> None:
    """Law: a row beside rows of other temperatures draws what it draws alone."""
    logits, uniform = logits_of(30, 40), np.random.default_rng(1).random(30)
    temperatures = [(0.0, 0.7, 1.0, 3.0)[i % 4] for i in range(30)]
    token, logprob = chosen(logits, temperatures, uniform)
    for i in range(30):
        alone = chosen(logits[i : i + 1], temperatures[i], uniform[i])
        assert alone[0] == token[i] and alone[1] == logprob[i]


@pytest.mark.parametrize("size", [40, BLOCK + 40])
def test_many_draws_of_one_row(size: int) -> None:
    """Law: draws that name the same row are what they are from copies of that row."""
    logits, uniform = logits_of(3, size), np.random.default_rng(1).random(30)
    row = torch.tensor([2, 0, 0, 1, 2, 2] * 5)
    temperatures = torch.tensor([0.7, 0.0, 1.3], dtype=torch.float64)
    token, logprob = choose(logits.clone(), temperatures, row, torch.from_numpy(uniform))
    expected = chosen(logits[row], temperatures[row].tolist(), uniform)
    assert token.tolist() == expected[0].tolist() and logprob.tolist() == expected[1].tolist()


@pytest.mark.parametrize("size", [50, BLOCK + 50])
def test_a_low_temperature_is_greedy_and_a_high_one_is_even(size: int) -> None:
    """Limit: at 1e-7 the likeliest token is certain, and at 1e6 number k lies in piece k."""
    tokens = np.linspace(0, size - 1, 50).round().astype(int)
    logits, middles = logits_of(50, size), (tokens + 0.5) / size
    assert chosen(logits, 1e-7, middles)[0].tolist() == logits.argmax(-1).tolist()
    assert chosen(logits, 1e6, middles)[0].tolist() == tokens.tolist()


@pytest.mark.parametrize("size", [12, BLOCK + 12])
def test_draws_follow_the_distribution(size: int) -> None:
    """Oracle: exact softmax; chi-square over 12 tokens, a correct choice fails once in 10^6 (fixed seed)."""
    count = 20_000
    logits = torch.full((size,), -50.0)
    likely = torch.randperm(size, generator=torch.Generator().manual_seed(2))[:12]
    logits[likely] = torch.linspace(0, 3, 12)
    uniform = np.random.default_rng(5).random(count)
    row, temperature = torch.zeros(count, dtype=torch.long), torch.tensor([0.8], dtype=torch.float64)
    drawn = choose(logits[None], temperature, row, torch.from_numpy(uniform))[0].numpy()
    expected = count * distribution(logits[None], 0.8)[0][likely]
    seen = np.bincount(drawn, minlength=size)[likely]
    assert seen.sum() == count and expected.min() > 20
    assert ((seen - expected) ** 2 / expected).sum() < chi2.isf(1e-6, 11)


@pytest.mark.parametrize("size", [30, 3 * BLOCK + 100])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(size: int, temperature: float, dtype: torch.dtype) -> None:
    """Oracle: the same logits in float32."""
    logits, uniform = logits_of(20, size).to(torch.bfloat16), np.random.default_rng(2).random(20)
    expected = chosen(logits.float(), temperature, uniform)
    token, logprob = chosen(logits.to(dtype), temperature, uniform)
    assert token.tolist() == expected[0].tolist()
    np.testing.assert_allclose(logprob, expected[1], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_vocabularies(dtype: torch.dtype) -> None:
    """Oracle: softmax in float64; in bfloat16 several tokens are the likeliest, and the first is taken."""
    logits = logits_of(4, 262_144, scale=1.0).to(dtype)
    exact = logits.double().numpy()
    token, logprob = chosen(logits, 0.0, 0.5)
    assert token.tolist() == exact.argmax(-1).tolist()
    np.testing.assert_allclose(logprob, np.log(distribution(logits, 1.0)).max(-1), rtol=0, atol=2e-7)


@pytest.mark.parametrize("size", [20, BLOCK + 20])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_numbers_that_are_not_finite_show(size: int, bad: float, temperature: float) -> None:
    """Limit: of such logits, the log-probability is not finite either; other rows are as ever."""
    logits = logits_of(3, size)
    logits[1, 4] = bad
    token, logprob = chosen(logits, temperature, 0.5)
    assert np.isfinite(logprob).tolist() == [True, False, True]
    whole = chosen(logits_of(3, size), temperature, 0.5)
    assert token[[0, 2]].tolist() == whole[0][[0, 2]].tolist()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_p", [0.05, 0.6, 0.99])
def test_draws_from_the_nucleus(size: int, temperature: float, top_p: float) -> None:
    """Oracle: the fewest of the sorted shares that reach it, float64; log-probabilities among all tokens."""
    logits = logits_of(100, size)
    uniform = np.random.default_rng(1).random(100)
    tensors = (torch.full((100,), value, dtype=torch.float64) for value in (temperature, top_p))
    heat, cut = tensors
    token, logprob = choose(logits, heat, torch.arange(100), torch.as_tensor(uniform), cut)
    share = distribution(logits, temperature)
    for row, one in enumerate(share):
        order = np.argsort(-one, kind="stable")
        enough = int(np.searchsorted(one[order].cumsum(), top_p)) + 1  # the one that reaches it is in
        kept = np.zeros_like(one)
        kept[order[:enough]] = one[order[:enough]]
        ends, drawn = kept.cumsum() / kept.sum(), int(token[row])
        assert kept[drawn] > 0
        assert ends[drawn] - kept[drawn] / kept.sum() - 1e-6 <= uniform[row] <= ends[drawn] + 1e-6
    expected = np.log(distribution(logits, 1.0))[np.arange(100), token]
    np.testing.assert_allclose(logprob, expected, rtol=0, atol=1e-5)


def test_equal_tokens_enter_the_nucleus_in_their_order() -> None:
    """Oracle: by hand: of four equal tokens two reach 0.3, the first two; 1 and greedy rows keep all."""
    rows = [[0.0] * 4, [0.0] * 4, [0.0, 1.0, 0.0, 0.0]]
    heat, cut = (torch.tensor(values, dtype=torch.float64) for values in ([1, 1, 0], [0.3, 1.0, 0.1]))
    number = torch.full((3,), LAST, dtype=torch.float64)
    token, logprob = choose(torch.tensor(rows), heat, torch.arange(3), number, cut)
    assert token.tolist() == [1, 3, 1]
    expected = [np.log(0.25), np.log(0.25), 1 - np.log(3 + np.e)]
    np.testing.assert_allclose(logprob, expected, atol=1e-6)
