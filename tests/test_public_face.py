"""What users may rely on from `import selfstudy`."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import selfstudy


def test_the_public_face_is_what_is_listed() -> None:
    """Oracle: the list of words in the design; anything added or lost must be decided here."""
    assert selfstudy.__all__ == ["compare", "evaluate", "fit", "load", "model", "task"]
    defined = {
        name
        for name, value in vars(selfstudy).items()
        if inspect.isfunction(value) and value.__module__ == "selfstudy" and not name.startswith("_")
    }
    assert defined == set(selfstudy.__all__)
    assert all(inspect.getdoc(getattr(selfstudy, name)) for name in selfstudy.__all__)


def test_the_version_is_the_installed_one() -> None:
    """Oracle: the package's metadata."""
    assert selfstudy.__version__ == version("selfstudy")
