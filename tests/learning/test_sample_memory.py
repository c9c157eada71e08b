"""What is known of each label: verdicts of one network and of two, and their way into checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from selfstudy.core.checkpoint import load_state, save_state
from selfstudy.core.errors import UsageError
from selfstudy.learning import sample_memory
from selfstudy.learning.sample_memory import LINEAR, LOSS, DetectionRule, SampleMemory, judged
from selfstudy.models.encoders.staged import Looked
from selfstudy.signals.label_noise import linear_separation, pseudo_loss_weights, small_loss

COUNT, CLASSES = 300, 3
RULE = DetectionRule(least_noisy=10)


def labels_and_look(seed: int = 0, wrong_share: float = 0.4) -> tuple[np.ndarray, np.ndarray, Looked]:
    """Given labels, which are wrong, and a look of a network that knows the truth, with features that
    tell."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, COUNT)
    wrong = np.arange(COUNT) < wrong_share * COUNT
    given = np.where(wrong, (truth + 1) % CLASSES, truth)
    logits = 4 * functional.one_hot(torch.from_numpy(truth), CLASSES) + 0.2 * torch.from_numpy(
        rng.normal(size=(COUNT, CLASSES))
    )
    features = rng.normal(size=(COUNT, 4)) + 3 * wrong[:, None]
    return given, wrong, Looked(logits.float(), torch.from_numpy(features).float())


def test_detectors_take_turns() -> None:
    """Oracle: the detectors' own functions on the losses and features, epoch by epoch."""
    given, wrong, look = labels_and_look()
    memory = SampleMemory(given, CLASSES)
    loss = functional.cross_entropy(look.logits, torch.from_numpy(given), reduction="none").numpy()
    by_loss = small_loss(loss)
    by_line = linear_separation(look.features.numpy(), by_loss.noisy)
    turns = [memory.detect([look], epoch, RULE)["detector"] for epoch in range(1, 5)]
    assert turns == [LINEAR, LOSS, LINEAR, LOSS]
    assert np.array_equal(memory.noisy.numpy(), by_loss.noisy) and (by_loss.noisy == wrong).all()
    assert memory.detect([look], 5, RULE)["flagged"] == by_line.noisy.sum()
    assert np.array_equal(memory.noisy.numpy(), by_line.noisy)
    assert [epoch for epoch, _ in memory.history[LOSS]] == [1, 2, 3, 4, 5]
    assert [epoch for epoch, _ in memory.history[LINEAR]] == [1, 3, 5]
    assert np.allclose(memory.history[LINEAR][-1][1], by_line.score, atol=1e-6)


def test_guesses_are_weighed_by_their_own_loss() -> None:
    """Oracle: the weights' own function on cross-entropies of guesses; 1 without weighing."""
    given, _, look = labels_and_look()
    memory = SampleMemory(given, CLASSES)
    guesses = torch.rand(1, COUNT, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(2)
    guesses[0, :60] = functional.one_hot(look.logits[:60].argmax(1), CLASSES).float()
    memory.guesses = guesses
    memory.detect([look], 2, RULE)
    pseudo = -(guesses[0] * look.logits.log_softmax(1)).sum(1).numpy()
    wanted = pseudo_loss_weights(pseudo, memory.noisy.numpy(), least=10)
    assert np.allclose(memory.weights, wanted, atol=1e-6) and np.allclose(
        memory.pseudo_loss, pseudo, atol=1e-6
    )
    assert memory.weights[:60].min() > 0.9 > memory.weights[60:120].min()
    memory.detect([look], 2, DetectionRule(weigh=False))
    assert (memory.weights == 1).all()


def test_two_networks_agree() -> None:
    """Oracle: the intersection of what each finds alone, and each held against the other's guesses."""
    given, _, look = labels_and_look()
    _, _, other = labels_and_look(1)
    other = Looked(other.logits, look.features)
    memory = SampleMemory(given, CLASSES, networks=2)
    memory.guesses = torch.rand(2, COUNT, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(2)
    labels = torch.from_numpy(given)
    alone = [
        judged(look, labels, memory.guesses[1], LOSS, RULE),
        judged(other, labels, memory.guesses[0], LOSS, RULE),
    ]
    memory.detect([look, other], 2, RULE)
    both = alone[0].noisy & alone[1].noisy
    assert np.array_equal(memory.noisy.numpy(), both) and 0 < both.sum() < alone[1].noisy.sum()
    mean = (alone[0].weights + alone[1].weights) / 2
    assert np.allclose(memory.weights, np.where(both, mean, 1), atol=1e-6)
    assert np.allclose(memory.loss, (alone[0].loss + alone[1].loss) / 2, atol=1e-6)


def test_few_suspects_are_not_weighed(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: weights of 1 below the least number, and a line that says so."""
    given, wrong, look = labels_and_look(wrong_share=0.1)
    memory = SampleMemory(given, CLASSES)
    with caplog.at_level("INFO"):
        memory.detect([look], 2, DetectionRule())
    assert memory.noisy.sum() == wrong.sum() == 30 and (memory.weights == 1).all()
    assert "too few to weigh" in caplog.text


def test_it_comes_back_from_a_checkpoint(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Oracle: the memory before; every array and the past of the scores."""
    given, _, look = labels_and_look()
    memory, back = SampleMemory(given, CLASSES), SampleMemory(given, CLASSES)
    for epoch in (1, 2):
        memory.detect([look], epoch, RULE)
    memory.steps = 7
    save_state(tmp_path / "state", {"memory": memory}, {})
    load_state(tmp_path / "state", {"memory": back})
    for name, value in memory.state_dict().items():
        assert str(back.state_dict()[name]) == str(value), name
    memory.detect([look], 3, RULE)
    back.detect([look], 3, RULE)
    assert torch.equal(memory.noisy, back.noisy) and len(back.history[LINEAR]) == 2


def test_the_past_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a limit of four epochs; the latest one is always there."""
    monkeypatch.setattr(sample_memory, "MOST_KEPT", 4 * COUNT)
    given, _, look = labels_and_look()
    memory = SampleMemory(given, CLASSES)
    for epoch in range(1, 12):
        memory.detect([look], epoch, DetectionRule(detectors=(LOSS,)))
        past = [epoch for epoch, _ in memory.history[LOSS]]
        assert len(past) <= 4 and past[-1] == epoch


@pytest.mark.parametrize("fields", [{"detectors": ("los",)}, {"sure": 1.0}, {"least_noisy": 1}])
def test_rules_that_cannot_be(fields: dict) -> None:
    """Oracle: a detector that there is not, a threshold that is none, a mixture of one."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        DetectionRule(**fields).validate()
