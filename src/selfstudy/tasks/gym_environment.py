"""A folder of its own for reasoning-gym, whose exact pins would tie the versions of everything else.

    python -m selfstudy.tasks.gym_environment

installs it with pip beside, not into, the current environment: under `$SELFSTUDY_CACHE`, by default
`~/.cache/selfstudy`. Tasks `gym:...` find it there. Takes about half a minute and 350 MB.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

from selfstudy.core.errors import MachineError, SelfstudyError
from selfstudy.core.files import write_whole
from selfstudy.core.machine import cache_folder

REQUIREMENT = "reasoning-gym==0.1.25"

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the place of the folder, made or not; it belongs to this version of Python."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache_folder() / f"{REQUIREMENT.replace('==', '-')}-python{python}"


def create() -> Path:
    """Install reasoning-gym into the folder, unless it is there; it appears whole or not at all.

    Raises:
        MachineError: there is no pip, or it failed.
    """
    target = folder()
    if target.is_dir():
        return target
    if importlib.util.find_spec("pip") is None:
        raise MachineError(
            f"This Python has no pip to install {REQUIREMENT} with. Run: "
            f"uv pip install --python {sys.executable} --target {target} {REQUIREMENT}"
        )

    def install(temporary: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--target", str(temporary), REQUIREMENT], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise MachineError(f"pip could not install {REQUIREMENT}:\n{done.stderr.strip()[-2000:]}")

    write_whole(target, install)
    return target


def main() -> int:
    """Make the folder; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _log.info("reasoning-gym is in %s", create())
    except SelfstudyError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
