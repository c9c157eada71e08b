"""The machine a run is on: the cores really given, its memory, and the versions of what computes."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import os
import platform
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
PACKAGES = ("selfstudy", "torch", "transformers", "peft", "numpy")


def cores(groups: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: its affinity, capped by the quota of its control groups.

    Args:
        groups: where control groups are mounted (version 2, or version 1 with a `cpu` folder).
        membership: the file that names this process's groups.
    """
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(groups, membership) if (quota := _quota(folder))]
    return max(1, min([given, *(math.ceil(quota) for quota in quotas)]))


def set_threads() -> int:
    """Give torch as many threads as there are cores, or as OMP_NUM_THREADS asks; return the number."""
    import torch

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(wanted) if wanted.isdigit() and int(wanted) > 0 else cores()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


def one_blas_thread() -> AbstractContextManager[Any]:
    """Give the products of numpy and scipy a single thread, within `with`.

    scipy's optimisers multiply vectors of a few hundred numbers, thousands of times. Each of numpy, scipy and
    torch has threads of its own, which go on waiting for work at full speed: a linear probe of 1,000 inputs
    took 36 times as long on two cores.
    """
    found: AbstractContextManager[Any] = _blas().limit(limits=1)
    return found


@functools.cache
def _blas() -> Any:
    """Return what sets the threads of numpy and scipy: to look for their libraries takes milliseconds."""
    import scipy.linalg  # noqa: F401 - so that its library can be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def memory() -> int:
    """Return the bytes of memory this process may use, or 0 where that cannot be read."""
    limits = []
    info = _read(Path("/proc/meminfo")).split()
    if "MemTotal:" in info:
        limits.append(int(info[info.index("MemTotal:") + 1]) * 1024)
    for folder in _folders(CGROUPS, Path("/proc/self/cgroup")):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdigit():
                limits.append(int(text))
    return min(limits, default=0)


def hardware() -> dict[str, Any]:
    """Return the processor, cores and memory, as they go into a summary."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_gib": round(memory() / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cache_folder() -> Path:
    """Return where what can be made again is kept: $SELFSTUDY_CACHE, else ~/.cache/selfstudy."""
    return Path(os.environ.get("SELFSTUDY_CACHE") or "~/.cache/selfstudy").expanduser()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute; none of them is imported."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _folders(groups: Path, membership: Path) -> list[Path]:
    """Return the folders of this process's control groups, from its own up to the root."""
    folders: list[Path] = []
    for line in _read(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(",") if controllers else [""]:
            if controller in ("", "cpu", "memory"):
                root = groups / controller
                own = root / path.strip("/")
                folders += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return folders or [groups]


def _quota(folder: Path) -> float | None:
    """Return the cores that one control group may use, or None without a limit."""
    pair = _read(folder / "cpu.max").split()
    if not pair:
        pair = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    if len(pair) != 2 or not pair[0].isdigit() or not int(pair[1]):
        return None
    return int(pair[0]) / int(pair[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
