"""What is particular to self-distilled further pre-training: the loss, the start, the teacher, the rounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, Stopped, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.random import derive, stream_key
from selfstudy.core.run import Run
from selfstudy.data.items import Texts
from selfstudy.data.views import ImageViews
from selfstudy.learning import further_pretraining
from selfstudy.learning.distillation import feature_distance
from selfstudy.learning.further_pretraining import FurtherPretraining, text_domain
from selfstudy.learning.masked_images import masked_image_loss
from selfstudy.learning.stages import StageTraining
from selfstudy.learning.supervised import Supervised
from selfstudy.learning.weight_distance import distance
from selfstudy.methods.pretraining.self_distilled_pretraining import SelfDistilledPretraining
from selfstudy.models.encoders.masked_decoder import MaskedAutoencoder
from selfstudy.tasks.images import ImageTask

MODEL = "mae?patch=2&hidden=16&layers=2&heads=2&decoder_hidden=8"
STILL = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = FurtherPretraining(steps=6, batch=8, learning_rate=1e-2)


def task(**fields: Any) -> ImageTask:
    given = {"labels": 40, "train": 60, "test": 40, **fields}
    return selfstudy.task("digits?" + "&".join(f"{name}={value}" for name, value in given.items()))


def origin(made: ImageTask, model: str = MODEL) -> MaskedAutoencoder:
    """A model with other weights than the first ones, which would be warned of."""
    found = made.prepared(selfstudy.model(model))
    assert isinstance(found, MaskedAutoencoder)
    with torch.no_grad():
        found.autoencoder.decoder.decoder_pred.bias.add_(0.01)
    return found


def method(**fields: Any) -> SelfDistilledPretraining:
    made = SelfDistilledPretraining(**{"pretraining": QUICK, "views": STILL, **fields})
    made.validate()
    return made


def fit(folder: Path, made: Any, start: Any, budget: Budget | None = None, **fields: Any) -> Fit:
    with Run(folder, {}, budget=budget) as run:
        return method(**fields).fit(made.metered(run.meter), start, run)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def losses(plan: SelfDistilledPretraining, made: ImageTask, start: Any, teacher: Any, student: Any) -> Any:
    def key(*parts: object) -> int:
        return stream_key(0, *parts)

    return plan._losses(plan.domain(made, start), start, teacher, student, key)


def test_the_loss_is_the_formula_on_two_images() -> None:
    """Oracle: the masked loss plus the squared distance of [CLS], summed over d and averaged over the batch
    by loops; scaled to another width; plus the squared distance of the weights."""
    made = task()
    start = origin(made)
    teacher, student = start.copy(), start.copy()
    with torch.no_grad():
        for number, model in enumerate((teacher, student), 1):
            for weight in model.parameters():
                weight.mul_(1 + 0.1 * number)
    at, images = np.array([3, 7]), made.train.pixels(np.array([3, 7]))
    h, h_teacher = student.features(images).detach(), teacher.features(images).detach()
    apart = torch.tensor(0.0)
    for image in range(2):
        for place in range(16):
            apart += (h[image, place] - h_teacher[image, place]) ** 2 / 2
    plan = method(weight=0.5)
    found = losses(plan, made, start, teacher, student)(0, at)
    keys = derive(stream_key(0, "further", "mask", 0), np.arange(2))
    masked = masked_image_loss(student, images, keys)
    assert torch.allclose(found["loss"], masked + 0.5 * apart, rtol=1e-5) and apart > 1e-3
    wide = losses(replace(plan, weight_width=768), made, start, teacher, student)(0, at)
    assert torch.allclose(wide["distillation"], 0.5 * 768 / 16 * apart, rtol=1e-5)
    pulled = losses(replace(plan, pull=0.1), made, start, teacher, student)(0, at)
    assert float(pulled["pull"]) == pytest.approx(0.1 * distance(student, start) ** 2, rel=1e-5)
    mean = losses(replace(plan, pooling="mean"), made, start, teacher, student)(0, at)
    states = [model.tokens(model.seen(images))[:, 1:].mean(1) for model in (student, teacher)]
    assert torch.allclose(mean["distillation"], 0.5 * feature_distance(*states).detach(), rtol=1e-5)


def test_a_teacher_that_is_the_start_adds_nothing_at_first() -> None:
    """Oracle: loss and gradients of the first step are those of the masked loss alone."""
    made = task()
    start = origin(made)
    gradients = []
    for teacher in (None, start):
        student = start.copy()
        found = losses(method(), made, start, teacher, student)(0, np.arange(8))
        found["loss"].backward()
        assert torch.equal(found["loss"].detach(), found["masked"])
        gradients.append([weight.grad for weight in student.parameters() if weight.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_without_weight_a_student_is_its_teacher_again(tmp_path: Path) -> None:
    """Oracle: bit-equal weights of both rounds; with weight they differ, and the start stays as it was."""
    made = task()
    start = origin(made)
    before = start.copy()
    found = fit(tmp_path / "none", made, start, weight=0.0)
    assert same(found.model, found.parts["teacher"]) and not same(found.model, start)
    other = fit(tmp_path / "some", made, start)
    assert same(other.parts["teacher"], found.model) and not same(other.model, other.parts["teacher"])
    assert same(start, before)


def test_the_teacher_stays_and_takes_no_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the weights of the teacher's stage after the student's, and `requires_grad` in its pass."""
    made, seen = task(), []

    def watched(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        seen.append((student.requires_grad, teacher.requires_grad))
        return feature_distance(student, teacher)

    module = "selfstudy.methods.pretraining.self_distilled_pretraining.feature_distance"
    monkeypatch.setattr(module, watched)
    found = fit(tmp_path / "two", made, origin(made), rounds=2)
    alone = fit(tmp_path / "one", made, origin(made), rounds=0)
    assert same(found.parts["teacher"], alone.model) and list(found.parts) == ["teacher", "student-1"]
    assert len(seen) == 2 * 6 and set(seen) == {(True, False)}


@pytest.mark.parametrize("restart", ["origin", "teacher"])
def test_where_a_student_starts(tmp_path: Path, restart: Any) -> None:
    """Oracle: the distance logged at the first step: 0 at the original weights, else the teacher's."""
    made = task()
    fit(tmp_path, made, origin(made), restart=restart)
    with Run(tmp_path, {}) as run:
        method(restart=restart).fit(made, origin(made), run)
        first = next(line for line in run.metrics() if line["stage"] == "student-1")
    teacher = MaskedAutoencoder.load(tmp_path / "stages" / "teacher")
    expected = 0.0 if restart == "origin" else distance(teacher, origin(made))
    assert first["distance"] == pytest.approx(expected, rel=1e-5)


def test_a_large_weight_makes_features_those_of_the_teacher(tmp_path: Path) -> None:
    """Oracle: the distance of features falls to a hundredth of that between teacher and start."""
    made = task()
    start = origin(made)
    plan = FurtherPretraining(steps=80, batch=16, learning_rate=5e-3)
    found = fit(tmp_path, made, start, weight=1e4, pretraining=plan)
    images = made.train.pixels(slice(None))
    features = [one.embed_pixels(images) for one in (start, found.parts["teacher"], found.model)]
    assert feature_distance(features[2], features[1]) < 0.01 * feature_distance(features[0], features[1])


def test_a_given_teacher_stands_in_for_the_first_round(tmp_path: Path) -> None:
    """Oracle: the student of a whole run with the same teacher; one of another shape is refused by its
    tensors; with the first round the samples are twice as many."""
    made = task()
    start = origin(made)
    whole = fit(tmp_path / "whole", made, start)
    whole.parts["teacher"].save(tmp_path / "teacher")
    given = fit(tmp_path / "given", made, start, teacher=str(tmp_path / "teacher"))
    assert same(given.model, whole.model)
    plan = method(teacher=str(tmp_path / "teacher"))
    assert plan.cost(made, start)["samples"] == 48 and method().cost(made, start)["samples"] == 96
    origin(made, "mae?patch=2&hidden=32&layers=2&heads=2&decoder_hidden=8").save(tmp_path / "wide")
    with pytest.raises(UsageError, match=r"autoencoder.*\(32.*for.*\(.*16.*same architecture"):
        fit(tmp_path / "refused", made, start, teacher=str(tmp_path / "wide"))
    with pytest.raises(UsageError, match="'small-bert' is another kind of model"):
        fit(tmp_path / "words", made, start, teacher="small-bert")


def test_the_second_student_is_taught_by_the_first(tmp_path: Path) -> None:
    """Oracle: the one student of a fit whose given teacher is the first student of another fit."""
    made = task()
    start = origin(made)
    two = fit(tmp_path / "two", made, start, rounds=2)
    two.parts["student-1"].save(tmp_path / "teacher")
    again = fit(tmp_path / "again", made, start, teacher=str(tmp_path / "teacher"))
    assert same(two.model, again.model) and not same(two.model, two.parts["student-1"])


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: weights and log of an uninterrupted run; the stop is within the student's round."""
    made = task()
    whole = fit(tmp_path / "whole", made, origin(made))
    plain, count = further_pretraining.step_further, [0]

    def stopping(*parts: Any) -> Any:
        count[0] += 1
        if count[0] == 9:
            raise Stopped("here")
        return plain(*parts)

    monkeypatch.setattr(further_pretraining, "step_further", stopping)
    with Run(tmp_path / "cut", {}, checkpoint_steps=2) as run, pytest.raises(Stopped):
        method().fit(made, origin(made), run)
    with Run(tmp_path / "cut", {}, checkpoint_steps=2) as run:
        resumed = method().fit(made, origin(made), run)
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
    with Run(tmp_path / "whole", {}) as run:
        method().fit(made, origin(made), run)
        expected = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
    assert same(resumed.model, whole.model) and lines == expected


def test_a_student_that_the_budget_does_not_cover_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the teacher is given back, never the original weights; samples are those of one round."""
    made = task()
    found = fit(tmp_path, made, origin(made), Budget(samples=60))
    assert "does not cover student 1" in caplog.text
    assert same(found.model, MaskedAutoencoder.load(tmp_path / "stages" / "teacher"))
    assert "distance, teacher" in found.metrics and "distance, student-1" not in found.metrics


def test_a_classifier_of_images(tmp_path: Path) -> None:
    """Oracle: its labelled images are told far better than by chance, and the encoder has moved."""
    made = task()
    start = origin(made, f"{MODEL}&features=mean")
    tuning = Supervised(steps=60, batch=20, optimizer="adamw", learning_rate=1e-2, views=STILL)
    found = fit(tmp_path, made, start, result="classifier", tuning=tuning)
    told = found.model.classify(made.labelled.pixels(slice(None))).numpy()
    assert (told == made.labelled.labels).mean() > 0.3
    assert not same(found.model.encoder, found.parts["student-1"])
    assert found.metrics["distance, original"] == 0 < found.metrics["distance of the encoder, teacher"]
    assert "validation, student-1" in found.metrics


def test_texts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: all rounds on a small BERT, a classifier in the end, the samples counted; said: that the model
    was never trained, and how many texts are cut."""
    pool = selfstudy.task("pool:messages?labels=20&train=60&test=40")
    start = selfstudy.model("small-bert?layers=1&width=16&heads=2&vocabulary=300&length=12&dropout=0")
    plan = method(result="classifier", text_tuning=StageTraining(steps=4, batch=8))
    with Run(tmp_path, {}) as run:
        with pytest.warns(UserWarning, match="of 60 texts are longer than 12 tokens"):
            found = plan.fit(pool.metered(run.meter), start, run)
        spent, expected = run.meter.snapshot(), plan.cost(pool, start)
    assert spent["samples"] == expected["samples"] == 2 * 48 + 32
    assert "never been trained" in caplog.text
    assert found.model.classify(pool.pool).shape == (60,)
    assert {f"distance, {name}" for name in ("original", "teacher", "student-1")} < found.metrics.keys()


def test_texts_without_a_first_token() -> None:
    """Oracle: the mean over tokens by hand, and a warning; with one, the first state."""
    texts = Texts("two", ("red blue", "blue red blue green"), np.zeros(2, dtype=np.int64))
    model = selfstudy.model("small-bert?layers=1&width=16&heads=2&vocabulary=300&dropout=0").made_for(texts)
    states = model.states(model.tokens(texts.texts))
    first = text_domain(texts.texts, model, pooling="cls").represent(model, texts.texts)
    assert torch.allclose(first, states[:, 0])
    model.tokenizer.cls_token = None
    with pytest.warns(UserWarning, match=r"no \[CLS\]"):
        domain = text_domain(texts.texts, model, pooling="cls")
    mask = model.tokens(texts.texts).mask[:, :, None]
    assert torch.allclose(domain.represent(model, texts.texts), (states * mask).sum(1) / mask.sum(1))


def test_what_is_said_of_few_inputs_and_of_bad_numbers(tmp_path: Path) -> None:
    """Oracle: a note and a smaller batch; numbers out of reach name the precision that has them."""
    made = task()
    with pytest.warns(UserWarning, match="60 unlabelled inputs"):
        fit(tmp_path / "few", made, origin(made), pretraining=replace(QUICK, batch=100))
    precision: Any
    for precision, advice in (("fp32", "Lower the"), ("fp16", "Take precision bf16")):
        wrong = origin(made)
        with torch.no_grad():
            wrong.autoencoder.decoder.decoder_pred.bias.fill_(float("inf"))
        plan = replace(QUICK, precision=precision)
        with pytest.raises(DataError, match=advice):
            fit(tmp_path / precision, made, wrong, pretraining=plan)


@pytest.mark.parametrize(
    "fields",
    [
        {"rounds": -1},
        {"weight": -1.0},
        {"pull": -0.1},
        {"mask_ratio": 1.0},
        {"mask_ratio": 0.0},
        {"rounds": 0, "teacher": "somewhere"},
        {"pretraining": replace(QUICK, steps=0)},
        {"pretraining": replace(QUICK, warmup=1.0)},
        {"pretraining": replace(QUICK, optimizer="lars")},
    ],
)
def test_what_is_refused(fields: dict[str, Any]) -> None:
    """Oracle: a UsageError before any work, for each."""
    with pytest.raises(UsageError):
        method(**fields)


def test_models_that_cannot_tell_hidden_parts_are_refused(tmp_path: Path) -> None:
    """Oracle: the names of models that can, in the message; nothing is written."""
    made, words = selfstudy.task("pool:messages?labels=20&train=60&test=40"), selfstudy.model("words")
    with pytest.raises(UsageError, match="small-bert"):
        fit(tmp_path, made, words)
    assert not (tmp_path / "stages").exists()
