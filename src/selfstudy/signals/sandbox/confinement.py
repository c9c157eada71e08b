"""The command that starts a sandboxed Python: bubblewrap, and the files of the interpreter."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from selfstudy.core.errors import MachineError

_AS_USER = ["--unshare-all", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
# In a user namespace that root makes, everybody is root outside, who owns the host's devices that are seen
# inside. So root makes none, and the process becomes another user itself, before all else (`guest.become`).
_AS_ROOT = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
_AS_ROOT += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
INSTALL = "Install it with: apt-get install bubblewrap (dnf, pacman and apk have it under the same name)."

_LIBRARY = re.compile(r"(/\S+) \(0x[0-9a-f]+\)")
# Modules that draw windows or read keys bring three dozen libraries, and each is a mount in every start.
_LEFT_OUT = ("_tkinter", "_curses", "_curses_panel", "readline", "nis", "_dbm", "_gdbm", "_test")


def command(files: int, descriptors: dict[str, int]) -> list[str]:
    """Return the words that start Python in a sandbox; those of Python itself are to follow.

    Args:
        files: bytes of the temporary directory.
        descriptors: what bwrap reads its filter of calls from (`seccomp`) and writes its process to (`info`).

    Raises:
        MachineError: bubblewrap is not installed.
    """
    words = [_bubblewrap(), "--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    words += _AS_ROOT if os.geteuid() == 0 else _AS_USER
    words += ["--seccomp", str(descriptors["seccomp"]), "--info-fd", str(descriptors["info"])]
    python, bound, libraries = _interpreter()
    settings = {
        "PYTHONHASHSEED": "0",  # the order of a set must not decide a verdict
        "MALLOC_ARENA_MAX": "1",  # one for each thread would take its memory from the limit, unused
        "LD_LIBRARY_PATH": ":".join(libraries),
        "HOME": "/tmp",
    }
    for name, value in settings.items():
        words += ["--setenv", name, value]
    for folder in sorted({str(parent) for path in bound for parent in Path(path).parents} - {"/"}):
        words += ["--perms", "0755", "--dir", folder]
    for path in bound:
        words += ["--ro-bind", path, path]
    words += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    words += [
        "--perms",
        "1777",
        "--size",
        str(files),
        "--tmpfs",
        "/tmp",
        "--remount-ro",
        "/",
        "--chdir",
        "/tmp",
    ]
    return [*words, python, "-s", "-S", "-P", "-B", "-X", "utf8"]


def _bubblewrap() -> str:
    if not sys.platform.startswith("linux"):
        raise MachineError(
            f"Code is judged in bubblewrap, which needs Linux; this is {sys.platform}. "
            "Run code tasks on Linux, or in a virtual machine with it."
        )
    found = shutil.which("bwrap")
    if found is None:
        raise MachineError(
            f"Code is judged in bubblewrap, and the command bwrap is not installed. {INSTALL} "
            "Without it no code is run."
        )
    return found


@functools.cache
def _interpreter() -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the interpreter, all paths that it needs, and the folders of its shared libraries."""
    python = os.path.realpath(sys.executable)
    standard = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    modules = [
        str(path)
        for folder in standard
        for path in Path(folder, "lib-dynload").glob("*.so")
        if not path.name.startswith(_LEFT_OUT)
    ]
    listed = subprocess.run(["ldd", python, *modules], capture_output=True, text=True, check=False)
    libraries = sorted(set(_LIBRARY.findall(listed.stdout)))
    folders = sorted({os.path.dirname(path) for path in libraries})
    return python, (python, *sorted(standard), *libraries), tuple(folders)
