"""The sampler against transformers' generate, plain loops and exact distributions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, LlamaForCausalLM, Qwen2Config

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, DataError, MachineError, UsageError
from selfstudy.core.random import uniforms
from selfstudy.models.language.engine import Engine
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, TorchSampler
from selfstudy.models.language.tiny import VOCABULARY, character_tokenizer, random_tiny_model, tiny_config

PROMPTS = ["47+8:", "1", "123-4*2:", "99+12:\n3=", "47+8:", "5" * 17]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@cache
def sharp_model(kind: str = "llama") -> LanguageModel:
    """A random model whose logits are spread out, so that its outputs vary."""
    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=18)
    common = dict(
        **small, intermediate_size=64, max_position_embeddings=512, bos_token_id=None, eos_token_id=17
    )
    if kind == "llama":
        model = ending_model(2, 32)
        model.module.lm_head.weight.data.mul_(20)
        return model
    config = {
        "qwen2": lambda: Qwen2Config(**common, num_key_value_heads=2),
        "gemma3": lambda: Gemma3TextConfig(
            **common,
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=7,
            sliding_window_pattern=2,
            pad_token_id=16,
        ),
        "gpt2": lambda: GPT2Config(
            n_embd=32, n_layer=2, n_head=4, vocab_size=18, n_positions=512, eos_token_id=17
        ),
    }[kind]()
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() == 2:
                weight.mul_(4)
            elif "bias" in name:
                weight.normal_(std=0.3)
    return LanguageModel(kind, module, character_tokenizer())


def generate(model: LanguageModel, prompt: str, new: int) -> list[int]:
    ids = torch.tensor([model.encode(prompt)])
    out = model.module.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=16
    )
    return out[0, ids.shape[1] :].tolist()


def in_nucleus(share: torch.Tensor, top_p: float) -> torch.Tensor:
    """The likeliest first, token by token, until they have `top_p` together; all others are 0."""
    out, taken = torch.zeros_like(share), 0.0
    for token in sorted(range(len(share)), key=lambda i: -share[i]):
        if taken < top_p:
            out[token] = share[token]
            taken += float(share[token])
    return out


def plain_sample(model: LanguageModel, request: Request) -> tuple[list[int], list[float]]:
    """One sequence, no cache, no stop strings: the definition."""
    tokens, new, logprobs = model.encode(request.prompt), [], []
    for t in range(request.max_tokens):
        with torch.no_grad():
            logits = model.module(torch.tensor([tokens])).logits[0, -1].double()
        if request.temperature == 0:
            token = int(logits.argmax())
        else:
            share = in_nucleus((logits / request.temperature).softmax(-1), request.top_p).cumsum(-1).numpy()
            u = float(uniforms(np.array([request.key], dtype=np.uint64), t)[0])
            token = int(np.searchsorted(share, u * share[-1], side="right"))
        logprobs.append(float(logits.log_softmax(-1)[token]))
        tokens, new = [*tokens, token], [*new, token]
        if token == 17:
            break
    return new, logprobs


def with_engine(model: LanguageModel, **settings: int) -> LanguageModel:
    """The same weights, drawn with other settings."""
    return LanguageModel(model.name, model.module, model.tokenizer, Engine(**settings))


def assert_same(got: list[Completion], expected: list[Completion]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert (a.text, a.tokens, a.finish) == (b.text, b.tokens, b.finish)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3", "gpt2"])
def test_greedy_equals_generate_in_a_padded_batch(kind):
    """Oracle: transformers' generate on each prompt alone; Gemma-3 runs past its sliding window of 7."""
    model = sharp_model(kind)
    requests = [Request(prompt=p, key=0, max_tokens=12, temperature=0) for p in PROMPTS]
    for prompt, completion in zip(PROMPTS, TorchSampler(model).sample(requests), strict=True):
        assert list(completion.tokens) == generate(model, prompt, 12)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("top_p", [(1.0,), (0.5, 0.9, 1.0, 0.01)])
def test_equals_the_plain_loop(kind, temperature, top_p):
    """Oracle: one sequence at a time without a cache, tokens and log-probabilities."""
    model = sharp_model(kind)
    requests = [
        Request(prompt=p, key=7 + i, max_tokens=9, temperature=temperature, top_p=top_p[i % len(top_p)])
        for i, p in enumerate(PROMPTS)
    ]
    for request, completion in zip(requests, TorchSampler(model).sample(requests), strict=True):
        tokens, logprobs = plain_sample(model, request)
        assert list(completion.tokens) == tokens
        np.testing.assert_allclose(completion.logprobs, logprobs, atol=1e-4)


def mixed_requests(count: int) -> list[Request]:
    rng = np.random.default_rng(3)
    return [
        Request(
            prompt="".join(rng.choice(list(VOCABULARY), rng.integers(1, 30))) if i % 3 else "12+3:",
            key=i,
            max_tokens=int(rng.integers(1, 24)),
            temperature=float(rng.choice([0.0, 0.8, 1.0])),
            stop=((), ("\n",), ("+1", "=4"))[i % 3],
        )
        for i in range(count)
    ]


@cache
def each_alone(kind: str) -> list[Completion]:
    sampler = TorchSampler(sharp_model(kind))
    return [sampler.sample([request])[0] for request in mixed_requests(64)]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("settings", [{}, {"rows": 5}, {"rows": 1}, {"cache_mib": 1}])
def test_alone_and_in_a_batch_of_64_the_same(kind, settings):
    """Law: nothing else in the batch, nor how rows are given out, changes a completion."""
    together = TorchSampler(with_engine(sharp_model(kind), **settings)).sample(mixed_requests(64))
    assert_same(together, each_alone(kind))
    assert {completion.finish for completion in together} >= {"stop", "length"}


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(12)))
def test_order_of_requests_does_not_matter(order):
    """Law: permuted requests give permuted completions (rows move inside the batch as others leave)."""
    requests = mixed_requests(12)
    straight = TorchSampler(sharp_model()).sample(requests)
    permuted = TorchSampler(sharp_model()).sample([requests[i] for i in order])
    assert [c.tokens for c in permuted] == [straight[i].tokens for i in order]


def test_draws_follow_the_models_distribution():
    """Oracle: exact softmax; chi-square over 18 tokens, a correct sampler fails once in 10^6 (fixed keys)."""
    from scipy.stats import chi2

    model = random_tiny_model(1, 32, seed=1)
    model.module.lm_head.weight.data.mul_(5)
    count, temperature = 4000, 0.7
    requests = [Request(prompt="1+2:", key=i, max_tokens=1, temperature=temperature) for i in range(count)]
    drawn = np.bincount([c.tokens[0] for c in TorchSampler(model).sample(requests)], minlength=17)
    with torch.no_grad():
        logits = model.module(torch.tensor([model.encode("1+2:")])).logits[0, -1].double()
    expected = count * (logits / temperature).softmax(-1).numpy()
    assert expected.min() > 5
    assert ((drawn - expected) ** 2 / expected).sum() < chi2.isf(1e-6, 16)


def ending_model(layers: int, width: int) -> LanguageModel:
    """A random tiny model with an end token, which the embedded one does not have."""
    tokenizer = character_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<eos>"})
    config = tiny_config(layers, width)
    config.vocab_size, config.eos_token_id = len(tokenizer), tokenizer.eos_token_id
    torch.manual_seed(0)
    return LanguageModel("ending", LlamaForCausalLM(config), tokenizer)


def scripted_model(text: str) -> LanguageModel:
    """A model that says `text` and its end token after a prompt of one token, whatever the prompt."""
    model = ending_model(1, 32)
    tokens = [*model.encode(text), model.end]

    def say(_module, _args, kwargs, output):
        place = kwargs["position_ids"][:, -1].clamp(max=len(tokens) - 1)
        output.logits[:] = 0
        output.logits[torch.arange(len(place)), -1, torch.tensor(tokens)[place]] = 50
        return output

    model.module.register_forward_hook(say, with_kwargs=True)
    return model


@pytest.mark.parametrize(
    ("stop", "text", "drawn", "finish"),
    [
        ((), "12+3=15\n7", 10, "end"),
        (("\n",), "12+3=15", 8, "stop"),
        (("=15",), "12+3", 7, "stop"),
        (("+3=", "\n"), "12", 5, "stop"),
        (("5\n7", "=16"), "12+3=1", 9, "stop"),
        (("99",), "12+3=15\n7", 10, "end"),
        (("1",), "", 1, "stop"),
    ],
)
def test_stop_strings(stop, text, drawn, finish):
    """Oracle: hand-made; strings of one token and of several, the first to be complete counts."""
    model = scripted_model("12+3=15\n7")
    completion = TorchSampler(model).sample([Request(prompt="0", key=0, max_tokens=30, stop=stop)] * 3)[1]
    assert (completion.text, len(completion.tokens), completion.finish) == (text, drawn, finish)


def test_stop_string_inside_one_token_and_across_tokens_of_a_word_vocabulary():
    """Oracle: hand-made tokens 'ab', 'c\\n', '\\nd', 'x': "c\\nd" and "\\n" cut where they begin."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    from selfstudy.models.language.stopping import GO_ON, LOOK, STOP, Stopping

    words = {"ab": 0, "c\n": 1, "\nd": 2, "x": 3, "<eos>": 4}
    inner = Tokenizer(models.WordLevel(words))
    inner.decoder = decoders.Fuse()
    model = random_tiny_model(1, 32)
    stopping = Stopping(
        LanguageModel("w", model.module, PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>"))
    )
    assert stopping.table(("\n",))[:4].tolist() == [GO_ON, STOP, STOP, GO_ON]
    assert stopping.table(("c\n\nd",))[:4].tolist() == [GO_ON, GO_ON, LOOK, GO_ON]
    assert stopping.in_tail([0, 1, 2], ("c\n\nd",))
    assert not stopping.in_tail([0, 3, 2], ("c\n\nd",))
    assert stopping.cut("abc\n\nd", ("\nd", "c\n")) == "ab"


def test_context_overflow_ends_with_context():
    """Oracle: 512 positions; prompt and draws never exceed them, a full prompt draws nothing."""
    model = scripted_model("1" * 600)
    prompts = ["1" * length for length in (509, 512, 600)]
    done = TorchSampler(model).sample(
        [Request(prompt=p, key=0, max_tokens=30, temperature=0) for p in prompts]
    )
    assert [(len(c.tokens), c.finish) for c in done] == [(3, "context"), (0, "context"), (0, "context")]


def test_charged_tokens_equal_a_recount():
    """Oracle: the completions' own tokens; FLOPs of all that was fed, what is shared once."""
    model, meter = sharp_model(), Meter()
    requests = mixed_requests(40)
    done = TorchSampler(model, meter).sample(requests)
    drawn = sum(len(c.tokens) for c in done)
    prompts = {request.prompt for request in requests}
    read = sum(len(prompt) - 1 for prompt in prompts)
    once = len({prompt[:end] for prompt in prompts for end in range(1, len(prompt))})
    fed = {
        (request.prompt, request.temperature, c.tokens[:end])
        for request, c in zip(requests, done, strict=True)
        for end in range(len(c.tokens))
    }
    assert meter.snapshot()["generated_tokens"] == drawn
    assert model.flops(len(fed) + once) <= meter.snapshot()["flops"] <= model.flops(drawn + read)


def test_budget_is_never_passed():
    """Law: the sampler stops before the step that the budget does not cover."""
    meter = Meter(Budget(generated_tokens=50))
    with pytest.raises(BudgetSpent):
        TorchSampler(sharp_model(), meter).sample(mixed_requests(20))
    assert meter.snapshot()["generated_tokens"] <= 50


def test_identical_prompts_are_read_once():
    """Oracle: FLOPs of the first step of 8 siblings: one prompt read, one token fed for all."""
    meter, model = Meter(), sharp_model()
    TorchSampler(model, meter).sample([Request(prompt="12+34:", key=i, max_tokens=1) for i in range(8)])
    assert meter.snapshot()["flops"] == model.flops(5) + model.flops(1)


def test_refuses_bad_requests():
    """Each bad request has its own named error, before any work."""
    sampler = TorchSampler(sharp_model())
    for bad in (
        dict(temperature=-1.0),
        dict(top_p=0.0),
        dict(top_p=1.1),
        dict(temperature=float("nan")),
        dict(max_tokens=-1),
        dict(stop=("",)),
    ):
        with pytest.raises(UsageError):
            sampler.sample([Request(**{"prompt": "1", "key": 0, "max_tokens": 3, **bad})])
    for prompt in ("", "a+b"):
        with pytest.raises(DataError):
            sampler.sample([Request(prompt=prompt, key=0, max_tokens=3)])
    assert sampler.sample([]) == []
    assert sampler.sample([Request(prompt="1", key=0, max_tokens=0)]) == [Completion("", (), (), "length")]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_alone_and_in_a_batch_of_256_the_same(kind):
    """Law: 255 others beside a request change nothing in float32: mixed prompts, temperatures and stops."""
    model, requests = sharp_model(kind), mixed_requests(256)
    together = TorchSampler(model).sample(requests)
    chosen = range(0, 256, 23)
    alone = [TorchSampler(model).sample([requests[i]])[0] for i in chosen]
    assert_same([together[i] for i in chosen], alone)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("remember", [False, True])
def test_few_rows_are_refilled(kind, remember):
    """Oracle: as many rows as requests; lengths from 1 to 50 in 3 rows, every request has all it asks for."""
    rng = np.random.default_rng(5)
    model = sharp_model(kind)
    requests = [
        Request(prompt=PROMPTS[i % 6], key=i, max_tokens=int(length), temperature=1.0)
        for i, length in enumerate(rng.permutation([1, 2, 50, 3, 1, 30, 5, 8, 1, 2] * 3))
    ]
    few = TorchSampler(with_engine(model, rows=3), remember=remember).sample(requests)
    assert_same(few, TorchSampler(model).sample(requests))
    for request, completion in zip(requests, few, strict=True):
        ended = completion.finish == "end" and completion.tokens[-1] == 17
        assert ended or len(completion.tokens) == request.max_tokens


@pytest.mark.parametrize("rows", [7, 256])
def test_one_prompt_asked_hundreds_of_times_beside_others_asked_once(rows):
    """Oracle: each request alone; the popular prompt's draws differ, and greedy ones are all the same."""
    model = sharp_model()
    popular = [Request(prompt="47+8:", key=i, max_tokens=6, temperature=float(i % 3 > 0)) for i in range(300)]
    singles = [Request(prompt=f"{i}-{i % 7}:", key=i, max_tokens=12) for i in range(30)]
    requests = [one for i in range(30) for one in (*popular[10 * i : 10 * i + 10], singles[i])]
    done = TorchSampler(with_engine(model, rows=rows)).sample(requests)
    chosen = [*range(0, 330, 47), *range(10, 330, 88)]
    assert_same([done[i] for i in chosen], [TorchSampler(model).sample([requests[i]])[0] for i in chosen])
    greedy = [c.tokens for c, request in zip(done, requests, strict=True) if request.temperature == 0]
    drawn = [c.tokens for c, r in zip(done, requests, strict=True) if r.temperature and r.prompt == "47+8:"]
    assert len(greedy) == 100 and len(set(greedy)) == 1
    assert len(drawn) == 200 and len(set(drawn)) > 20


@pytest.mark.parametrize("decoded", [True, False])
def test_logits_that_are_not_finite_name_the_request_and_the_token(decoded):
    """Oracle: by hand: reading "-" gives a number that is none; mended, all is well again."""
    model = sharp_model().copy()
    if not decoded:
        model.module.base_model.layers[0].register_forward_hook(lambda layer, given, output: output)
    embedding = model.module.get_input_embeddings().weight
    whole = embedding.detach().clone()
    requests = [Request(prompt=p, key=i, max_tokens=12, temperature=0) for i, p in enumerate(PROMPTS)]
    before = TorchSampler(model).sample(requests)
    for remember in (False, True):
        sampler = TorchSampler(model, remember=remember)
        assert_same(sampler.sample(requests), before)
        with torch.no_grad():
            embedding[model.encode("-")] = torch.nan
        one = [Request(prompt=p, key=0, max_tokens=1, temperature=0) for p in PROMPTS[:2]]
        assert [c.tokens for c in sampler.sample(one)] == [c.tokens[:1] for c in before[:2]]
        with pytest.raises(MachineError, match=r"token 1 of request 2 \(prompt '123-4\*2:'\)"):
            sampler.sample(requests)
        with torch.no_grad():
            embedding.copy_(whole)
        assert_same(sampler.sample(requests), before)
        assert_same(TorchSampler(model).sample(requests), before)


def test_a_memory_smaller_than_a_prompt():
    """Limit: a named error that says what to change, before any work; what fits is drawn."""
    model, meter = with_engine(ending_model(4, 96), cache_mib=1), Meter()
    # 2 * 4 layers * 96 numbers * 4 bytes = 3 KiB a token: half a mebibyte holds 170.
    sampler = TorchSampler(model, meter)
    with pytest.raises(UsageError, match="cache_mib=2048"):
        sampler.sample([Request(prompt="1" * 171, key=0, max_tokens=3)])
    with pytest.raises(UsageError, match="cache_mib"):
        sampler.sample([Request(prompt="1" * 30, key=0, max_tokens=170)])
    assert meter.snapshot()["flops"] == 0
    requests = [Request(prompt="1" * (20 + i), key=i, max_tokens=6) for i in range(10)]
    roomy = TorchSampler(with_engine(model, cache_mib=64)).sample(requests)
    assert_same(sampler.sample(requests), roomy)


def test_a_search_in_little_memory_draws_the_same():
    """Oracle: a memory for everything; texts that go on from the last round's, more than the cache holds."""
    model = ending_model(4, 96)
    model.module.lm_head.weight.data.mul_(20)
    samplers = [TorchSampler(with_engine(model, cache_mib=mib), remember=True) for mib in (1, 64)]
    prompts = [f"{i}+{i + 1}:" for i in range(4)]
    for turn in range(4):
        requests = [Request(prompt=p, key=100 * turn + i, max_tokens=7) for i, p in enumerate(prompts * 2)]
        small, large = (sampler.sample(requests) for sampler in samplers)
        assert_same(small, large)
        prompts = [p + c.text for p, c in zip(prompts, large[4:], strict=True)]


def test_a_stop_string_that_never_comes():
    """Limit: it costs nothing but the look; the draws end by length, with all their text."""
    model = scripted_model("12+3=15\n7" * 3)
    requests = [Request(prompt="0", key=0, max_tokens=12, stop=("7*", "9\n9", "5\n77")), *mixed_requests(3)]
    completion = TorchSampler(model).sample(requests)[0]
    assert (completion.text, completion.finish) == ("12+3=15\n712+", "length")


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_weights_changed_between_two_calls(kind):
    """Oracle: a new sampler on the changed weights; what was remembered of the old ones does not show."""
    model = sharp_model(kind).copy()
    sampler = TorchSampler(model, remember=True)
    requests = [Request(prompt=p, key=i, max_tokens=8, temperature=i % 2) for i, p in enumerate(PROMPTS)]
    before = sampler.sample(requests)
    layer = next(m for m in model.module.modules() if type(m).__name__.endswith("MLP"))
    for _ in range(2):
        with torch.no_grad():
            for weight in layer.parameters():
                weight.copy_(weight.flip(0))
        after = sampler.sample(requests)
        assert_same(after, TorchSampler(model).sample(requests))
        assert [c.tokens for c in after] != [c.tokens for c in before]
        before = after


def test_a_call_that_ran_out_of_budget_leaves_nothing_behind():
    """Oracle: a fresh sampler; what the interrupted call had drawn and read does not show."""
    model, requests = sharp_model(), mixed_requests(20)
    sampler = TorchSampler(model, Meter(Budget(generated_tokens=50)), remember=True)
    with pytest.raises(BudgetSpent):
        sampler.sample(requests)
    sampler.meter = Meter()
    assert_same(sampler.sample(requests), TorchSampler(model).sample(requests))
