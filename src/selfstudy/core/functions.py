"""A user's own functions by name: `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from selfstudy.core.errors import UsageError, nearest


def user_function(name: str, role: str) -> Callable[..., Any]:
    """Return the function that `module:function` names; the current directory is looked in too.

    Args:
        name: "module:function".
        role: what it is for, such as "verifier", for the error.

    Raises:
        UsageError: no such module or function, or a module that raises.
    """
    module_name, _, function_name = name.partition(":")
    module = _import(name, module_name, role)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(
            f"The {role} {name!r} cannot be used: module {module_name!r} has no function {function_name!r}. "
            f"{nearest(function_name, known)}"
        )
    return function


def _import(name: str, module_name: str, role: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The {role} {name!r} cannot be imported: there is no module {error.name!r} in {here} or among "
            "the installed packages. Give module:function, with the module's file in the current directory."
        ) from error
    except (ValueError, TypeError):
        raise UsageError(f"The {role} {name!r} is not of the form module:function.") from None
    except Exception as error:
        raise UsageError(
            f"The {role} {name!r} cannot be imported: {module_name!r} raised {error!r}. Repair the module."
        ) from error
    finally:
        if added:
            sys.path.remove(here)
