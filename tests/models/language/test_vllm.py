"""Sampling by vLLM, against the sampler of this process.

vLLM needs a GPU and a torch of its own, so a stand-in with its interface takes its place; see
`vllm_stand_in.py`. Where vLLM is installed and a GPU is there, the last test runs the real one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, DataError, MachineError, MissingExtra, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.models.language import vllm as backend
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.engine import Engine
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.vllm import VllmSampler
from selfstudy.search.solvers import greedy_solver

from . import vllm_stand_in
from .vllm_stand_in import STARTED

REAL = importlib.util.find_spec("vllm") is not None and torch.cuda.is_available()
TASK = "chain100?steps=2&train=0&validation=0&test=4"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Put the stand-in where vLLM would be, with no engine running."""
    monkeypatch.setitem(sys.modules, "vllm", vllm_stand_in)
    for name in backend.QUIET:
        monkeypatch.setenv(name, "")
    STARTED.engines, STARTED.fails = [], None
    yield vllm_stand_in
    backend.stop_engine()
    STARTED.engines = []


@pytest.fixture
def model() -> LanguageModel:
    """The embedded model, to be drawn by vLLM."""
    found = selfstudy.model("tiny-lm")
    found.engine = Engine(backend="vllm", cache_mib=8, rows=7)
    return found


def prompts(count: int = 4) -> list[str]:
    return [problem.prompt for problem in selfstudy.task(TASK.replace("test=4", f"test={count}")).test]


def asks(texts: list[str], **fields: Any) -> list[Request]:
    return [
        Request(**{"prompt": text, "key": i, "max_tokens": 24, "temperature": 0.0, **fields})
        for i, text in enumerate(texts)
    ]


def close(one: Any, other: Any) -> bool:
    return (one.text, one.tokens, one.finish) == (other.text, other.tokens, other.finish) and (
        one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    )


# What is drawn.


@pytest.mark.parametrize("stop", [(), ("\n",), ("=", "\n")])
@pytest.mark.parametrize("most", [0, 3, 24])
def test_greedy_completions_are_those_of_torch(
    vllm: ModuleType, model: LanguageModel, stop: tuple[str, ...], most: int
) -> None:
    """Oracle: the sampler of this process: texts, tokens, log-probabilities and how they end."""
    requests = asks(prompts(), stop=stop, max_tokens=most)
    meter, other = Meter(), Meter()
    found = open_sampler(model, meter).sample(requests)
    expected = TorchSampler(model, other).sample(requests)
    assert all(map(close, found, expected))
    assert meter.snapshot()["generated_tokens"] == other.snapshot()["generated_tokens"]


def test_the_end_of_the_context(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the sampler of this process, on a prompt that leaves room for two tokens, and a full one."""
    text = "7+" * 300
    fills, leaves = text[: model.context], text[: model.context - 2]
    for prompt in (fills, leaves):
        assert len(model.encode(prompt)) == len(prompt)
    requests = asks([fills, leaves], max_tokens=9)
    found = open_sampler(model).sample(requests)
    assert all(map(close, found, TorchSampler(model).sample(requests)))
    assert [one.finish for one in found] == ["context", "context"] and not found[0].tokens


def test_a_key_draws_the_same_again(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the same request alone and among others; other keys, up to 64 bits, draw otherwise."""
    requests = asks(prompts(1) * 6, temperature=3.0)
    requests[5] = replace(requests[5], key=2**64 - 1)
    sampler = open_sampler(model)
    together = sampler.sample(requests)
    assert together[3] == sampler.sample([requests[3]])[0]
    assert len({one.tokens for one in together}) == 6


def test_a_nucleus_of_one_token_draws_the_likeliest(vllm: ModuleType, model: LanguageModel) -> None:
    """Limit: whatever the key and the temperature."""
    requests = asks(prompts(2), temperature=3.0, top_p=1e-9)
    greedy = [replace(one, temperature=0.0) for one in requests]
    sampler = open_sampler(model)
    assert sampler.sample(requests) == sampler.sample(greedy)


def test_solvers_use_it(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the same solver with the other backend."""
    task = selfstudy.task(TASK)
    found = task.evaluate(greedy_solver(model, task))
    assert STARTED.engines and found == task.evaluate(greedy_solver(selfstudy.model("tiny-lm"), task))


# The engine and the weights.


def test_the_engine_is_started_once_with_the_models_settings(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the calls of vLLM; another architecture or setting starts another one."""
    for _ in range(2):
        open_sampler(model).sample(asks(prompts(1)))
    (engine,) = STARTED.engines
    assert engine.settings == {"tp": 1, "seqs": 7, "bytes": 8 * 2**20}
    assert engine.dtype == torch.float32 and engine.max_model_len == model.context and not engine.calls
    copy = model.copy()
    copy.engine = replace(model.engine, rows=3, tensor_parallel=2)
    open_sampler(copy).sample(asks(prompts(1)))
    assert [one.settings["tp"] for one in STARTED.engines] == [1, 2]


def test_trained_weights_are_handed_over(vllm: ModuleType, model: LanguageModel, tmp_path: Any) -> None:
    """Oracle: the sampler of this process with the trained model; then with the first one again."""
    requests = asks(prompts())
    examples = [Example(prompt, "1\n2\n") for prompt in prompts()]
    with Run(tmp_path / "run", {}) as run:
        tuned = fine_tune(model, examples, FineTuning(steps=8, learning_rate=1e-2, lora_rank=4), run, "t")
    seen = []
    for one in (model, tuned, tuned, model):
        found = open_sampler(one).sample(requests)
        assert all(map(close, found, TorchSampler(one).sample(requests)))
        seen.append([completion.text for completion in found])
    assert seen[0] != seen[1] == seen[2] and seen[3] == seen[0]
    (engine,) = STARTED.engines
    assert engine.calls == ["reload", "reset"] * 2


def test_weights_written_in_place_are_noticed(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the sampler of this process, after the model's own weights were changed under a sampler."""
    sampler, requests = open_sampler(model), asks(prompts())
    sampler.sample(requests)
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.mul_(1.5)
    assert all(map(close, sampler.sample(requests), TorchSampler(model).sample(requests)))


def test_reading_by_earlier_weights_is_let_go(
    vllm: ModuleType, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: vLLM's word that it could not is an error."""
    open_sampler(model).sample(asks(prompts(1)))
    monkeypatch.setattr(vllm_stand_in.LLM, "reset_prefix_cache", lambda self: False)
    with pytest.raises(MachineError, match="did not let go"):
        open_sampler(model.copy()).sample(asks(prompts(1)))


# Budgets.


def test_what_was_read_before_costs_nothing(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the tokens that vLLM says it had, in blocks of 16, by hand."""
    meter = Meter()
    sampler, (request,) = open_sampler(model, meter), asks(["12+" * 7], max_tokens=5)
    sampler.sample([request])
    first = meter.snapshot()["flops"]
    drawn = meter.snapshot()["generated_tokens"]
    assert first == model.flops(21 + drawn)
    sampler.sample([request])
    assert meter.snapshot()["flops"] - first == model.flops(21 - 16 + drawn)


def test_a_request_is_drawn_where_the_budget_covers_it(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: requests of at most 5 tokens, each takes 5: three fit into 17, the fourth does not."""
    meter = Meter(Budget(generated_tokens=17))
    with pytest.raises(BudgetSpent, match="17 generated tokens"):
        open_sampler(model, meter).sample(asks(prompts(6), max_tokens=5))
    assert meter.snapshot()["generated_tokens"] == 15 and STARTED.engines[0].sizes == [3]


def test_tokens_not_needed_are_there_for_the_next(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: a line of a chain is shorter than 24 tokens, so more than two fit into 50."""
    whole = sum(len(one.tokens) for one in open_sampler(model).sample(asks(prompts(3), stop=("\n",))))
    assert whole < 26
    meter = Meter(Budget(generated_tokens=50))
    open_sampler(model, meter).sample(asks(prompts(3), stop=("\n",)))
    assert meter.snapshot()["generated_tokens"] == whole and STARTED.engines[0].sizes[-2:] == [2, 1]


# What cannot be.


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, model: LanguageModel) -> None:
    """Oracle: the extra is named, when the model is named, and when a saved one is drawn from."""
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(MissingExtra, match=r"'vllm'.*selfstudy\[vllm\]"):
            selfstudy.model("tiny-lm?backend=vllm")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"selfstudy\[vllm\]"):
        open_sampler(model).sample(asks(prompts(1)))


def test_vllm_that_does_not_start(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: vLLM's own reason, and what to do; the next one may start."""
    STARTED.fails = ValueError("No available memory for the cache blocks.\nTry increasing it.")
    with pytest.raises(MachineError, match=r"'tiny-lm': No available memory for the cache blocks. Give"):
        open_sampler(model).sample(asks(prompts(1)))
    STARTED.fails = None
    assert open_sampler(model).sample(asks(prompts(1)))


def test_memory_that_is_too_small(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: tokens that 1 MiB holds, by hand: keys and values, float32, a block less."""
    model.engine = replace(model.engine, cache_mib=1)
    config = model.module.config
    token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    room = 16 * (2**20 // token // 16 - 1)
    with pytest.raises(UsageError, match=rf"keys and values, {room} tokens.*cache_mib"):
        open_sampler(model).sample(asks(["1+" * (room // 2)], max_tokens=1))
    assert room < model.context and open_sampler(model).sample(asks(["1+" * (room // 2 - 1)], max_tokens=1))


def test_numbers_that_are_not_finite(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: the step and the prompt are named."""
    with torch.no_grad():
        model.module.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(MachineError, match=r"log-probability of nan at step 0 after the prompt"):
        open_sampler(model).sample(asks(prompts(1)))


def test_requests_that_cannot_be(vllm: ModuleType, model: LanguageModel) -> None:
    """Oracle: as in this process; nothing is started."""
    for wrong in ({"temperature": -1.0}, {"max_tokens": -1}, {"stop": ("",)}):
        with pytest.raises(UsageError):
            open_sampler(model).sample(asks(prompts(1), **wrong))
    assert not STARTED.engines
    with pytest.raises(DataError, match="has no tokens"):
        open_sampler(model).sample(asks([""]))


@pytest.mark.skipif(not REAL, reason="needs vLLM and a GPU")
def test_the_real_one() -> None:
    """Oracle: the sampler of this process, greedily; then again after the weights have changed."""
    model = selfstudy.model("tiny-lm?backend=vllm&cache_mib=256")
    requests = asks(prompts(), stop=("\n",))
    for factor in (1.0, 1.01):
        with torch.no_grad():
            for weight in model.module.parameters():
                weight.mul_(factor)
        found, expected = VllmSampler(model).sample(requests), TorchSampler(model).sample(requests)
        assert [one.tokens for one in found] == [one.tokens for one in expected]
    backend.stop_engine()
