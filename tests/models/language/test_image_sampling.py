"""Prompts with images: what is drawn, scored and learnt from, against the plain forward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, DataError, MachineError, UsageError
from selfstudy.core.random import uniforms
from selfstudy.core.run import Run
from selfstudy.learning.answer_logprobs import token_logprobs
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, Rollout, optimise_policy
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.image_sampling import ImageSampler
from selfstudy.models.language.images import joined, look_at
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.scoring import completion_logprobs, pair_tokens

from .vision_models import llava, marked, noise, qwen

MODELS = {"llava": llava(), "qwen": qwen()}
SIZES = {"llava": ((8, 8), (9, 12)), "qwen": ((16, 24), (24, 24))}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.set_num_threads(1)
    return MODELS[request.param]


def requests_of(model: LanguageModel, **more) -> list[Request]:
    """One image, two, none, and the first again with another image, so that only the image differs."""
    kind = "qwen" if "qwen" in model.name else "llava"
    a, b = (noise(*size, seed) for seed, size in enumerate(SIZES[kind]))
    c = noise(*SIZES[kind][0], 7)
    shown = [(a,), (a, b), (), (c,)]
    texts = ["a+b=", "max=", "1+2=", "a+b="]
    return [
        Request(prompt=marked(model, len(images), text), key=5, max_tokens=6, images=images, **more)
        for images, text in zip(shown, texts, strict=True)
    ]


def logits(model: LanguageModel, tokens: list[int], inputs) -> torch.Tensor:
    """Of the next token, by one pass over one row."""
    with torch.no_grad():
        row = torch.tensor([tokens])
        out = model.module(input_ids=row, **joined([inputs], len(tokens), "cpu")).logits[0, -1].double()
    config = model.module.config
    for name in ("image_token_id", "video_token_id"):
        if getattr(config, name, None) is not None:
            out[getattr(config, name)] = -torch.inf
    return out


def plainly(model: LanguageModel, request: Request) -> tuple[list[int], list[float]]:
    """Tokens and log-probabilities, each from a pass over everything before."""
    seen = look_at(model, [request.prompt], [request.images])[0]
    tokens, said = [], []
    places = np.arange(request.max_tokens, dtype=np.uint64)
    numbers = uniforms(np.array([[request.key]], dtype=np.uint64), places)[0]
    for number in numbers:
        logs = logits(model, [*seen.tokens, *tokens], seen.inputs).log_softmax(-1)
        share = (logs / (request.temperature or 1e-6)).softmax(-1)
        likelier = (share[:, None] > share).double().T @ share  # of each token, what is likelier together
        heat = share.masked_fill(likelier >= request.top_p, 0.0).cumsum(-1)
        drawn = torch.searchsorted(heat, float(number) * float(heat[-1]), right=True)
        token = int(drawn if request.temperature else logs.argmax())
        tokens.append(token)
        said.append(float(logs[token]))
        if token == model.end:
            break
    return tokens, said


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (1.0, 0.6)])
def test_draws(model: LanguageModel, temperature: float, top_p: float) -> None:
    """Oracle: a second implementation without memory, padding or batches, for each request alone."""
    requests = requests_of(model, temperature=temperature, top_p=top_p)
    drawn = ImageSampler(model).sample(requests)
    for request, completion in zip(requests, drawn, strict=True):
        tokens, said = plainly(model, request)
        assert list(completion.tokens) == tokens
        assert np.allclose(completion.logprobs, said, atol=1e-4)
        assert completion.finish == ("end" if tokens[-1] == model.end else "length")
    assert drawn[0].logprobs != drawn[3].logprobs  # the image matters


def test_batches_change_nothing(model: LanguageModel) -> None:
    """Oracle: each request alone, and all of them in the other order."""
    requests = requests_of(model)
    sampler = ImageSampler(model)
    together = [completion.tokens for completion in sampler.sample(requests)]
    assert [sampler.sample([request])[0].tokens for request in requests] == together
    assert [completion.tokens for completion in sampler.sample(requests[::-1])] == together[::-1]


def test_stops_and_limits(model: LanguageModel) -> None:
    """Oracle: the free draw, cut by hand at its second token's text; no tokens asked for; no room."""
    many = [replace(requests_of(model)[0], key=key) for key in range(20)]
    drawn = zip(many, ImageSampler(model).sample(many), strict=True)
    request, completion = next((r, c) for r, c in drawn if len(c.text) > 2)
    stop = completion.text[1]
    found = ImageSampler(model).sample([replace(request, stop=(stop,))])[0]
    place = completion.text.index(stop)
    assert found.finish == "stop" and found.text == completion.text[:place]
    assert found.tokens == completion.tokens[: len(found.tokens)]
    assert ImageSampler(model).sample([replace(request, max_tokens=0)])[0].finish == "length"
    with pytest.raises(DataError, match="no tokens"):
        ImageSampler(model).sample([Request(prompt="", key=1, max_tokens=2)])


def test_what_is_charged(model: LanguageModel) -> None:
    """Oracle: the tokens drawn; a budget one below ends the call with no more than that charged."""
    meter = Meter()
    requests = requests_of(model)
    drawn = sum(len(one.tokens) for one in ImageSampler(model, meter).sample(requests))
    assert meter.snapshot()["generated_tokens"] == drawn
    tight = Meter(Budget(generated_tokens=drawn - 1))
    with pytest.raises(BudgetSpent):
        ImageSampler(model, tight).sample(requests)
    assert tight.snapshot()["generated_tokens"] <= drawn - 1


def test_learning_sees_the_images(model: LanguageModel) -> None:
    """Oracle: the sampler's log-probabilities, and one pass over each row, padding and neighbours aside."""
    requests = requests_of(model)
    drawn = ImageSampler(model).sample(requests)
    seen = look_at(model, [r.prompt for r in requests], [r.images for r in requests])
    rows = [(one.tokens, c.tokens, one.inputs) for one, c in zip(seen, drawn, strict=True)]
    found = token_logprobs(model.module, rows)
    pairs = [(r.prompt, c.tokens) for r, c in zip(requests, drawn, strict=True)]
    sequences = pair_tokens(model, pairs, end=False, images=[r.images for r in requests])
    with torch.no_grad():
        sums = completion_logprobs(model.module, sequences)
    for (prompt, tokens, inputs), values, total in zip(rows, found, sums.tolist(), strict=True):
        with torch.no_grad():
            row = torch.tensor([[*prompt, *tokens]])
            out = model.module(input_ids=row, **joined([inputs], row.shape[1], "cpu")).logits[0].float()
        logs = out.log_softmax(-1)[len(prompt) - 1 : -1]
        expected = logs.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        assert np.allclose(values, expected, atol=1e-4)
        assert total == pytest.approx(float(expected.sum()), abs=1e-3)


def test_equal_prompts_with_other_images_stay_apart() -> None:
    """Oracle: each row alone; the two prompts have the same tokens."""
    model = MODELS["llava"]
    first, *_, last = requests_of(model)
    seen = look_at(model, [first.prompt, last.prompt], [first.images, last.images])
    assert seen[0].tokens == seen[1].tokens
    rows = [(one.tokens, (1, 2, 3), one.inputs) for one in seen for _ in range(2)]
    found = token_logprobs(model.module, rows)
    alone = [token_logprobs(model.module, [row])[0] for row in rows]
    assert np.allclose(found, alone, atol=1e-5) and not np.allclose(found[0], found[2], atol=1e-3)


def test_weights_that_are_not_finite() -> None:
    """Oracle: one weight that is nan."""
    model = llava().copy()
    with torch.no_grad():
        model.module.get_output_embeddings().weight[0, 0] = torch.nan
    with pytest.raises(MachineError, match="not finite at token 1"):
        ImageSampler(model).sample(requests_of(model)[:1])


def test_saving_keeps_the_processor(tmp_path: Path) -> None:
    """Oracle: the same draws from the copy that was read back, and from `open_sampler`."""
    model = MODELS["llava"]
    model.save(tmp_path / "model")
    back = LanguageModel.load(tmp_path / "model")
    assert back.processor is not None and back.copy().processor is back.processor
    requests = requests_of(model)
    assert open_sampler(back).sample(requests) == ImageSampler(model).sample(requests)


def test_a_model_of_text_is_refused() -> None:
    """Oracle: the model has no processor."""
    with pytest.raises(UsageError, match="reads text alone"):
        selfstudy.model("tiny-lm").prompt("a+b=", images=1)


def test_fine_tuning_learns_from_images(tmp_path: Path) -> None:
    """Oracle: two images with other completions after the same text; both can only be learnt by looking."""
    torch.set_num_threads(1)
    model = MODELS["llava"]
    images = [noise(8, 8, 1), noise(8, 8, 2)]
    prompt = model.prompt("a+b=", images=1)
    examples = [Example(prompt, said, (image,)) for image, said in zip(images, ("1\n", "2\n"), strict=True)]
    settings = FineTuning(learning_rate=3e-3, steps=60, batch=2)
    with Run(tmp_path / "run") as run:
        trained = fine_tune(model, examples, settings, run, "tuned")
    asked = [Request(prompt=prompt, key=0, max_tokens=3, temperature=0.0, images=(i,)) for i in images]
    assert [c.text for c in ImageSampler(trained).sample(asked)] == ["1\n", "2\n"]


def test_a_frozen_vision_tower(tmp_path: Path) -> None:
    """Oracle: after a step of policy gradients its weights are the same bits, the decoder's are not."""
    model = MODELS["llava"]
    request = requests_of(model)[0]
    seen = look_at(model, [request.prompt], [request.images])[0]
    rollouts = [Rollout(seen.tokens, (1, said), said - 2.0, images=seen.inputs) for said in (1, 3)]

    def trained(name: str, **settings: object) -> dict[str, torch.Tensor]:
        with Run(tmp_path / name) as run:
            result = optimise_policy(
                model,
                lambda policy, step: Collection(rollouts, np.array([[1.0, 0.0]])),
                PolicyGradient(**settings),  # type: ignore[arg-type]
                run,
                "policy",
                steps=1,
                longest=2,
            )
        return dict(result.module.named_parameters())

    before = dict(model.module.named_parameters())
    free, held = trained("a"), trained("b", frozen=("vision_tower",))
    moved = {name for name in before if not torch.equal(before[name], held[name])}
    assert moved and not any("vision_tower" in name for name in moved)
    assert any(not torch.equal(before[name], free[name]) for name in before if "vision_tower" in name)
    with pytest.raises(UsageError, match="No weight has 'eyes'"):
        trained("c", frozen=("eyes",))
    with pytest.raises(UsageError, match="nothing is left"):
        trained("d", frozen=("model", "lm_head"))
