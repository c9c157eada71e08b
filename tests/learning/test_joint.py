"""Training by two processes: their weights are those of one, by DDP, by FSDP, and after a resumption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from selfstudy.core.errors import Stopped, UsageError
from selfstudy.core.group import Group, joined
from selfstudy.core.run import Run
from selfstudy.learning import joint
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.joint import Joint, share
from selfstudy.learning.preferences import Pair, Preference, prefer
from selfstudy.learning.values import ValueFitting, ValueSample, fit_values
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.models.language.value import ValueModel

from .two_processes import in_two_processes

EXAMPLES = [Example(f"{i}+1:", f"{i + 1}\n") for i in range(6)] + [Example("2*3-1:", "2*3=06\n06-1=05\n")]
PAIRS = [Pair(f"{i}+1:", f"{i + 1}\n", f"{i}\n") for i in range(7)]
SAMPLES = [ValueSample(f"{i}:", (f"{i}", "1"), (i / 9, float("nan"))) for i in range(9)]
Weights = dict[str, torch.Tensor]
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def open_run(name: str, group: Group, folder: Path) -> Run:
    return Run(folder / name, {}, group=group, checkpoint_steps=1)


def tuned(run: Run, **settings: object) -> Weights:
    model = random_tiny_model(1, 32)
    model.module.double()
    # 5 of 7 rows in a step: the processes have no equal shares, and in the last part one has none.
    result = fine_tune(model, EXAMPLES, FineTuning(steps=4, batch=5, **settings), run, "sft")  # type: ignore[arg-type]
    return dict(result.module.named_parameters())


def preferring(run: Run) -> Weights:
    model = random_tiny_model(1, 32)
    model.module.double()
    settings = Preference(steps=3, batch=5, learning_rate=1e-3, micro_batch=2)
    return dict(prefer(model, PAIRS, settings, run, "dpo").module.named_parameters())


def valuing(run: Run) -> Weights:
    start = ValueModel.from_policy(random_tiny_model(1, 32))
    fit = fit_values(start, SAMPLES, ValueFitting(epochs=3, batch=4, micro_batch=1), run, "value")
    return {**fit.model.net.state_dict(), "mse": torch.tensor(fit.mse)}


TRAININGS: dict[str, Callable[[Run], Weights]] = {
    "whole": tuned,
    "parts": lambda run: tuned(run, micro_batch=1),
    "lora": lambda run: tuned(run, lora_rank=2),
    "dpo": preferring,
    "value": valuing,
}


def all_of_them(group: Group, folder: Path) -> Weights:
    found = {}
    for name, train in TRAININGS.items():
        run = open_run(name, group, folder)
        found |= {f"{name} {part}": weight for part, weight in train(run).items()}
        steps = [line for line in run.metrics() if "loss" in line]
        # Adam does not see how long a gradient is; the norm does.
        found[f"{name} steps"] = torch.tensor([[line["loss"], line["norm"]] for line in steps])
        run.close()
    return found


def cut_off(group: Group, folder: Path) -> Weights:
    """Fine-tune up to a signal that only the second process gets, then go on."""
    run = open_run("cut", group, folder)
    log = run.log

    def logged(**values: object) -> None:
        log(**values)
        if values.get("step") == 1 and group.rank == group.count - 1:
            run._interrupts.hear(15)

    run.log = logged  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        tuned(run)
    run.close()
    group.gather(None)  # the lock is let go before anybody opens it again
    assert max(path.name for path in (folder / "cut/partial/sft").iterdir()) == "000000002"
    return tuned(open_run("cut", group, folder))


def together(rank: int) -> Weights:
    folder = Path(os.environ["TOGETHER"])
    with joined() as group:
        found = all_of_them(group, folder)
        return {**found, **{f"cut {name}": weight for name, weight in cut_off(group, folder).items()}}


def sharded(rank: int) -> Weights:
    """Let accelerate shard on the processor, where it does so on GPUs alone: only its choice is replaced."""
    from accelerate import Accelerator, DistributedType
    from accelerate.utils import FullyShardedDataParallelPlugin

    def sharding(_: bool) -> Accelerator:
        plugin = FullyShardedDataParallelPlugin()
        found = Accelerator(cpu=True, fsdp_plugin=plugin)
        found.state.__dict__.update(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)
        return found

    os.environ.update(SHARDED)
    joint._accelerator = sharding
    return together(rank)


@pytest.mark.parametrize("work", [together, sharded])
def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work) -> None:
    """Oracle: this process alone: float64 weights to 1e-7, float32 ones to 1e-5; both processes are equal."""
    alone = all_of_them(Group(), tmp_path / "one")
    monkeypatch.setenv("TOGETHER", str(tmp_path / "two"))
    (tmp_path / "meet").mkdir()
    first, second = in_two_processes(work, tmp_path / "meet")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    for name, weight in alone.items():
        close = 1e-7 if weight.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(first[name], weight, atol=close, rtol=0, msg=lambda text, n=name: n + text)
    for name in (name for name in first if name.startswith("cut ")):
        assert torch.equal(first[name], first[name.replace("cut ", "whole ")]), name


def test_shares_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand, for three processes; who has no row reads one that does not count."""
    monkeypatch.setattr(joint, "processes", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    parts = [[0, 1, 2], [3, 4, 5, 6, 7, 8], [9, 10]]
    assert [share(part) for part in parts] == [([2], 1.0), ([5, 8], 1.0), ([9], 0.0)]


@pytest.fixture
def anew() -> Iterator[None]:
    """Let accelerate forget what it read from the environment."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("precision, kind", [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_precision_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, precision, kind) -> None:
    """Oracle: the type of a product inside the loss; weights and gradients are float32."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    module = torch.nn.Linear(2, 1)
    training = Joint(module, torch.optim.SGD(module.parameters()))
    kinds = []

    def loss(layer: torch.nn.Module, rows: list[torch.Tensor]) -> torch.Tensor:
        out = layer(torch.stack(rows))
        kinds.append(out.dtype)
        return out.float().sum()[None]

    assert training.backward([[torch.ones(2)], [torch.ones(2)]], loss).shape == (1,)
    assert kinds == [kind, kind] and module.weight.grad.tolist() == [[2.0, 2.0]]


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    "setting, said",
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "bf16 or no"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_DEEPSPEED": "true"}, "with DEEPSPEED"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_FSDP": "true"}, "with FSDP on processors"),
    ],
)
def test_other_ways_of_training_are_refused(monkeypatch: pytest.MonkeyPatch, setting, said) -> None:
    """Oracle: the error; nothing is trained another way than was asked for."""
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    module = torch.nn.Linear(1, 1)
    with pytest.raises(UsageError, match=said):
        Joint(module, torch.optim.SGD(module.parameters()))
