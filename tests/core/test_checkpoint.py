from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core import checkpoint
from selfstudy.core.checkpoint import check_sums, find_class, load_state, name_class, save_state
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.run import Run


class Holder:
    """A state that is whatever the test puts in."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return self.value

    def load_state_dict(self, state_dict):
        self.value = state_dict


class Kept:
    """A class that a stage result may have."""

    @classmethod
    def load(cls, folder):
        return cls()


def through_disk(folder, value):
    holder = Holder(None)
    shutil.rmtree(folder, ignore_errors=True)
    save_state(folder, {"it": Holder(value)}, {"step": 3})
    assert load_state(folder, {"it": holder}) == {"step": 3}
    return holder.value


def same(one, other):
    """Compare nested data, with types, dtypes, shapes and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(
            type(a) is type(b) and a == b and same(x, y) for (a, x), (b, y) in pairs
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        bits = one.contiguous().view(torch.uint8) if one.ndim and one.numel() else one
        others = other.contiguous().view(torch.uint8) if other.ndim and other.numel() else other
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits, others)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other


tensors = st.sampled_from(
    [
        torch.arange(6.0).reshape(2, 3).T,  # not contiguous
        torch.tensor(5),
        torch.tensor(0.1, dtype=torch.float64),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.tensor([1.5, float("nan"), float("-inf")], dtype=torch.bfloat16),
    ]
)
arrays = st.sampled_from(
    [np.arange(3, dtype=np.uint64) + 2**63, np.zeros((0, 2), np.float32), np.array([[0.1]]), np.array(True)]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | tensors | arrays
keys = st.text(alphabet="a.0'", max_size=3) | st.integers(0, 3)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(keys, nested, max_size=3))
def test_nested_states_come_back(tmp_path_factory, value):
    """Oracle: the value itself; keys of both kinds, lists and tuples, every dtype, names that would clash."""
    folder = tmp_path_factory.getbasetemp() / "nested"
    assert same(through_disk(folder, value), value)


def test_clashing_names_keep_their_own_tensors(tmp_path):
    """Oracle: three tensors whose dotted names are the same stay three."""
    value = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 0: torch.tensor(3), "0": torch.tensor(4)}
    assert same(through_disk(tmp_path / "c", value), value)


def test_tied_weights(tmp_path):
    """Oracle: a module whose two layers share a weight comes back equal and still tied."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    save_state(tmp_path / "c", {"model": module}, {})
    expected = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.zero_()
    load_state(tmp_path / "c", {"model": module})
    assert module[1].weight is module[0].weight
    assert torch.equal(module[0].weight, expected)


@pytest.mark.parametrize("steps", [0, 3])
def test_optimizer_states(tmp_path, steps):
    """Oracle: after loading, one more step of AdamW gives the same bits, from an empty state too."""

    def start():
        torch.manual_seed(1)
        module = torch.nn.Linear(4, 2)
        return module, torch.optim.AdamW(module.parameters(), lr=0.01, betas=(0.8, 0.9))

    def step(module, optimizer):
        module(torch.ones(4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    module, optimizer = start()
    for _ in range(steps):
        step(module, optimizer)
    save_state(tmp_path / "c", {"model": module, "optimizer": optimizer}, {})
    other, its_optimizer = start()
    with torch.no_grad():
        other.weight.zero_()
    load_state(tmp_path / "c", {"model": other, "optimizer": its_optimizer})
    assert same(its_optimizer.state_dict(), optimizer.state_dict())
    step(module, optimizer)
    step(other, its_optimizer)
    assert torch.equal(module.weight, other.weight)


def test_the_order_in_memory_comes_back(tmp_path):
    """Oracle: the strides before; fused optimisers pair weights and moments by their place in memory."""
    last = torch.arange(24.0).reshape(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    first, one = torch.arange(24.0).reshape(2, 3, 2, 2), torch.ones(2, 1, 3, 3)
    back = through_disk(tmp_path, {"last": last, "first": first, "one": one})
    for name, value in {"last": last, "first": first, "one": one}.items():
        assert torch.equal(back[name], value) and back[name].stride() == value.stride(), name


def test_no_pickle_in_a_checkpoint(tmp_path):
    """Oracle: the files are safetensors and JSON; what JSON cannot hold is refused and leaves nothing."""
    save_state(tmp_path / "c", {"it": Holder({"a": torch.ones(2)})}, {})
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        checkpoint.TENSORS,
        checkpoint.STRUCTURE,
        checkpoint.SUMS,
    }
    with pytest.raises(TypeError):
        save_state(tmp_path / "d", {"it": Holder({"a": object()})}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def cut_in_half(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(file):
    file.write_text(file.read_text().replace("0", "1", 1) + " ")


DAMAGE = {
    "truncated tensors": (checkpoint.TENSORS, cut_in_half),
    "empty tensors": (checkpoint.TENSORS, lambda file: file.write_bytes(b"")),
    "edited json": (checkpoint.STRUCTURE, edit),
    "missing tensors": (checkpoint.TENSORS, lambda file: file.unlink()),
    "missing json": (checkpoint.STRUCTURE, lambda file: file.unlink()),
    "missing sums": (checkpoint.SUMS, lambda file: file.unlink()),
    "truncated sums": (checkpoint.SUMS, cut_in_half),
    "emptied sums": (checkpoint.SUMS, lambda file: file.write_text("{}")),
    "other sums": (checkpoint.SUMS, lambda file: file.write_text("[1]")),
}


def train(directory, until):
    """Train up to step `until` of 8; return (weights, steps done in this session)."""
    torch.manual_seed(0)
    module, done = torch.nn.Linear(2, 1), []
    with Run(directory, {"n": 8}, checkpoint_steps=2) as run:
        for step in run.steps(8, state={"model": module}, desc="fit"):
            if step == until:
                break
            with torch.no_grad():
                module.weight += float(run.rng("noise", step).random())
            done.append(step)
    return module.weight.detach().clone(), done


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_names_the_way_on(tmp_path, damage):
    """Oracle: the error names the file and the earlier step; following it gives the uninterrupted weights."""
    expected, _ = train(tmp_path / "whole", None)
    train(tmp_path / "run", 7)  # leaves checkpoints of steps 4 and 6
    newest = tmp_path / "run" / "partial" / "fit" / "000000006"
    name, hurt = DAMAGE[damage]
    hurt(newest / name)
    with pytest.raises(MachineError) as caught:
        train(tmp_path / "run", None)
    assert str(newest / name) in str(caught.value)
    assert f"Delete the folder {newest} and resume to go on from the one of step 4" in str(caught.value)
    assert newest.exists()  # ours to report, not to delete
    shutil.rmtree(newest)
    weights, done = train(tmp_path / "run", None)
    assert done == [4, 5, 6, 7]
    assert torch.equal(weights, expected)


def test_a_damaged_only_checkpoint_starts_again(tmp_path):
    """Oracle: with no earlier checkpoint the message says so, and deleting it starts from step 0."""
    train(tmp_path, 3)
    (only,) = (tmp_path / "partial" / "fit").iterdir()
    cut_in_half(only / checkpoint.TENSORS)
    with pytest.raises(MachineError, match="from the start of this part"):
        train(tmp_path, None)
    shutil.rmtree(only)
    assert train(tmp_path, None)[1] == list(range(8))


def test_two_checkpoints_are_kept(tmp_path):
    """Oracle: the two newest steps."""
    train(tmp_path, 7)
    assert sorted(path.name for path in (tmp_path / "partial" / "fit").iterdir()) == [
        "000000004",
        "000000006",
    ]


def test_sums_cover_nested_files(tmp_path):
    """Oracle: a byte changed in a file of a folder inside is found."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x").write_text("abc")
    checkpoint.write_sums(tmp_path)
    check_sums(tmp_path)
    assert set(json.loads((tmp_path / checkpoint.SUMS).read_text())) == {"inner/x"}
    (tmp_path / "inner" / "x").write_text("abd")
    with pytest.raises(MachineError, match="inner/x has been truncated or edited"):
        check_sums(tmp_path)


def test_classes_by_name(tmp_path):
    """Oracle: classes that another process could find; never an import that a file asks for."""

    class Local:
        @classmethod
        def load(cls, folder):
            return cls()

    assert find_class(name_class(Kept), tmp_path) is Kept
    for kind in (Local, dict):
        with pytest.raises(UsageError, match="top of a module"):
            name_class(kind)
    for name in ("wave:open", "json:load", "selfstudy.nowhere:X", "selfstudy.core.run:Run", "", "os"):
        with pytest.raises(MachineError, match="not ours"):
            find_class(name, tmp_path)
