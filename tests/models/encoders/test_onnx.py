"""Encoders as ONNX files: the same numbers from another program, and what is kept when they are not."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import MachineError, MissingExtra, UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.transformations import SETS
from selfstudy.models.encoders import onnx
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, JOINT, ImageClassifier
from selfstudy.models.encoders.onnx import TOLERANCE, export_onnx

pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra onnx")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def drawn(channels: int, size: int = 8, count: int = 12) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return ImageSet("drawn", pixels, np.zeros(count, np.int64), ())


def encoder(spec: str = "conv?first=4&stages=2", channels: int = 1) -> ImageEncoder:
    return selfstudy.model(spec).made_for(drawn(channels))


def run(path: Path, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, inputs)
    return found


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `encoder()`."""
    return export_onnx(encoder(), tmp_path_factory.mktemp("onnx") / "e.onnx").path


@pytest.mark.parametrize("spec", ["conv?first=4&stages=2", "vit?hidden=8&heads=2&layers=1"])
def test_the_file_gives_what_embed_gives(spec: str, tmp_path: Path) -> None:
    """Oracle: `embed` on the same bytes, for one image and for many; the preprocessing is in the file."""
    model = encoder(spec, channels=3)
    made = export_onnx(model, tmp_path / "e.onnx")
    assert made.difference <= TOLERANCE and made.size == (tmp_path / "e.onnx").stat().st_size
    assert made.inputs == {"images": "uint8 [N, 8, 8, 3]"}
    assert made.output == f"features: float32 [N, {model.width}]"
    for count in (1, 12):
        images = np.ascontiguousarray(drawn(3).images[:count].transpose(0, 2, 3, 1))
        found = run(made.path, images=images)
        assert found.shape == (count, model.width) and close(found, model.embed(images))


def test_a_backbone_and_its_resizing_are_in_the_file(tmp_path: Path) -> None:
    """Oracle: `embed` of a network that sees grey images, smoothed and smaller, in three channels."""
    from transformers import ResNetConfig, ResNetModel

    from selfstudy.models.language.model import no_bars

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    with no_bars():
        ResNetModel(config).save_pretrained(tmp_path / "hub")
    model = selfstudy.model(f"vision:{tmp_path / 'hub'}?size=16").made_for(drawn(1, 24))
    made = export_onnx(model, tmp_path / "b.onnx")
    images = np.ascontiguousarray(drawn(1, 24).images.transpose(0, 2, 3, 1))
    assert close(run(made.path, images=images), model.embed(images))


@pytest.mark.parametrize(("heads", "mode"), [((CLASS,), "aggregate"), ((JOINT,), "aggregate")])
def test_a_classifier_gives_its_scores(heads: tuple[str, ...], mode: Any, tmp_path: Path) -> None:
    """Oracle: the classifier's own scores and classes; their names are in the file."""
    import onnx as package

    outputs = {CLASS: 3, JOINT: 12}
    told = ImageClassifier(
        encoder(),
        ("cat", "dog", "fox"),
        {head: outputs[head] for head in heads},
        transformed=SETS["rotation"],
        mode=mode,
    ).eval()
    made = export_onnx(told, tmp_path / "c.onnx")
    images = np.ascontiguousarray(drawn(1).images.transpose(0, 2, 3, 1))
    found = run(made.path, images=images)
    assert close(found, told.scores(drawn(1).pixels(slice(None))).numpy())
    (notes,) = package.load(made.path).metadata_props
    assert notes.key == "classes" and json.loads(notes.value) == ["cat", "dog", "fox"]
    assert np.array_equal(np.array(json.loads(notes.value))[found.argmax(1)], told.predict(images))


def test_a_tabular_encoder_takes_numbers_and_codes(tmp_path: Path) -> None:
    """Oracle: `embed` on rows with numbers, categories and gaps."""
    columns = {
        "height": [1.5, 1.7, None, 1.6, 1.9, 1.4, 1.75, 1.8],
        "kind": ["a", "b", "b", None, "a", "c", "a", "b"],
    }
    from selfstudy.data.mixed_tables import table_of

    model = selfstudy.model("tabular-transformer?width=8&layers=1&hidden=8&heads=2").made_for(
        table_of(columns)
    )
    made = export_onnx(model, tmp_path / "t.onnx")
    rows = model.rows(columns)
    found = run(made.path, numbers=rows.numbers.numpy(), codes=rows.codes.numpy())
    assert close(found, model.embed(columns)) and set(made.inputs) == {"numbers", "codes"}


def test_the_file_names_no_place_of_this_machine(written: Path) -> None:
    """Oracle: the bytes of the file."""
    assert str(Path(onnx.__file__).parents[3]).encode() not in written.read_bytes()


def test_other_numbers_are_an_error_and_leave_no_file(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the file of another encoder in place of the one that was written; the older file stays."""
    path = tmp_path / "e.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(onnx, "_write", lambda plan, file: shutil.copy(written, file))
    assert export_onnx(encoder(), tmp_path / "same.onnx").difference <= TOLERANCE
    (tmp_path / "same.onnx").unlink()
    with pytest.raises(MachineError, match="gives other outputs"):
        export_onnx(encoder("conv?first=4&stages=2&seed=1"), path)
    broken = encoder()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(MachineError, match="differ by inf"):
        export_onnx(broken, path)
    monkeypatch.setattr(onnx, "_write", lambda plan, file: file.write_bytes(b"no model"))
    with pytest.raises(MachineError, match="onnxruntime cannot run"):
        export_onnx(encoder(), path)
    assert path.read_bytes() == b"older" and [file.name for file in tmp_path.iterdir()] == ["e.onnx"]


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the reason in the message; nothing is written."""
    refused: dict[str, Any] = {
        "made for no images yet": selfstudy.model("conv"),
        "A Linear cannot be written": torch.nn.Linear(2, 2),
    }
    for said, model in refused.items():
        with pytest.raises(UsageError, match=said):
            export_onnx(model, tmp_path / "e.onnx")
    monkeypatch.setattr(onnx, "LARGEST", 10)
    with pytest.raises(UsageError, match="one ONNX file holds less than 2"):
        export_onnx(encoder(), tmp_path / "e.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"'{package}'.*selfstudy\[onnx\]"):
        export_onnx(encoder(), tmp_path / "e.onnx")
