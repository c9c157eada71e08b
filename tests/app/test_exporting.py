"""`selfstudy export`: from a run to a file, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfstudy
from selfstudy.app import exporting
from selfstudy.app.cli import main
from selfstudy.app.exporting import export
from selfstudy.core.errors import UsageError

pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra onnx")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    fields: dict[str, Any] = {"projector": (4,), "pretraining": {"epochs": 0.1, "batch": 64}}
    selfstudy.fit("barlow-twins", task="digits?test=20", model="conv?first=2", out=out, **fields)
    return out


def test_the_command_writes_what_the_run_gave(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: onnxruntime on the file against the loaded encoder; the lines say what the file says."""
    import onnxruntime

    returned: list[dict[str, Any]] = []
    monkeypatch.setattr(exporting, "export", lambda *given: returned.append(export(*given)))
    file = tmp_path / "new" / "digits.onnx"
    assert main(["export", str(fitted), "--onnx", str(file)]) in (0, None)
    said = capsys.readouterr().out
    assert returned[0]["bytes"] == file.stat().st_size and returned[0]["file"] == str(file)
    assert returned[0]["difference"] <= returned[0]["tolerance"] == 1e-4
    assert str(file) in said and "uint8 [N, 8, 8, 1]" in said and "features: float32 [N, 8]" in said
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    (found,) = onnxruntime.InferenceSession(str(file)).run(None, {"images": images})
    assert np.allclose(found, selfstudy.load(fitted).embed(images), atol=1e-5)


def test_no_run_and_no_file_are_refused(fitted: Path, tmp_path: Path) -> None:
    """Oracle: what is said; nothing is written."""
    with pytest.raises(UsageError, match="holds no saved model"):
        export(tmp_path, tmp_path / "e.onnx")
    with pytest.raises(UsageError, match="is a folder"):
        export(fitted, tmp_path)
    assert not list(tmp_path.iterdir())
