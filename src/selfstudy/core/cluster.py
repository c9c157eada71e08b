"""The Ray cluster of a fan-out: started on this machine and ended with the block, or joined."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from selfstudy.core.errors import MachineError, MissingExtra, UsageError
from selfstudy.core.machine import cores

ANSWER = 5.0  # seconds in which a cluster's head must answer
SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # we say it, with what is done about it
    "RAY_worker_niceness": "0",  # workers do the run's work: they are as urgent as the run itself
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers without a GPU of their own: Ray's coming default
}


def check_place(where: str) -> None:
    """Raise what `connected` would raise for a wrong word, or where Ray is missing, and start nothing."""
    host, _, port = where.rpartition(":")
    if where not in ("local", "auto") and not (host and port.isdigit() and "/" not in host):
        raise UsageError(
            f"There is no Ray cluster {where!r}. Give local, auto, or HOST:PORT of a cluster's head, such as "
            "10.0.0.5:6379."
        )
    if find_spec("ray") is None:
        raise MissingExtra("ray", "ray")


@contextlib.contextmanager
def connected(where: str, least: int = 1) -> Iterator[dict[str, float]]:
    """Be connected to a Ray cluster for the length of a block; yields what is free, by resource.

    Args:
        where: see `fan_out`.
        least: workers that a cluster started here has room for, also beyond its cores.

    Raises:
        UsageError: none of these words, or a process that is connected to another cluster.
        MissingExtra: Ray is not installed.
        MachineError: no cluster answers.
    """
    check_place(where)
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        if where != "auto":
            raise UsageError(
                f"This process is connected to a Ray cluster already. Give auto to use it, not {where}."
            )
        yield ray.available_resources()
        return
    with contextlib.ExitStack() as stack:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            joined = where != "local" and _join(where)
            if not joined:
                _start(max(cores(), least), stack)
        finally:
            # Ray listens for SIGTERM too, and would end the process in the middle of a write.
            with contextlib.suppress(ValueError):  # not the main thread: nothing was changed
                signal.signal(signal.SIGTERM, handler)
        stack.callback(ray.shutdown)
        yield ray.available_resources() if joined else ray.cluster_resources()


def _join(where: str) -> bool:
    """Connect to a running cluster; False when there is none and one may be started."""
    import ray

    try:
        if where != "auto":  # Ray itself would try for minutes, and then end the process
            host, _, port = where.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER).close()
        ray.init(where, **SILENT)
    except OSError as error:
        if where == "auto":
            return False
        raise MachineError(
            f"No Ray cluster answers at {where} ({error}). Start one with `ray start --head` and join it on "
            "this machine with `ray start --address`, or take --ray local."
        ) from error
    return True


def _start(count: int, stack: contextlib.ExitStack) -> None:
    """Start a cluster of `count` cores on this machine, with a folder and a key of its own."""
    import ray

    # Ray's sockets have long names: in a folder further down they would pass the system's limit.
    place = os.environ.get("RAY_TMPDIR", "/tmp")
    folder = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="selfstudy-ray-", dir=place, ignore_cleanup_errors=True)
    )
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # without a key Ray would write one into the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init("local", num_cpus=count, include_dashboard=False, _temp_dir=folder, **SILENT)
