"""The first thing that runs in a sandbox: takes the limits on, and closes what it need not have.

Runs inside; nothing but the standard library is there.
"""

from __future__ import annotations

import os
import resource
import sys

_MESSAGE_QUEUES = 12  # RLIMIT_MSGQUEUE, which the module does not name
MESSAGE = 2**30
"""Bytes of the longest message of the host."""


def become(user: int) -> None:
    """Become another user, without groups and rights; 0 stays what it is."""
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def confine(limits: dict, keep: set[int]) -> None:
    """Limit this process for good, and let it see nothing but `keep`.

    Args:
        limits: `Limits` as a dict.
        keep: the file descriptors that stay open.
    """
    for name, soft, hard in (
        ("CPU", limits["cpu"], limits["cpu"] + 1),  # a signal that tells why, then SIGKILL
        ("AS", limits["memory"], limits["memory"]),
        ("NPROC", limits["threads"] + 2, limits["threads"] + 2),  # with the first process of the sandbox
        ("FSIZE", limits["files"], limits["files"]),
        ("NOFILE", 64, 64),
        ("CORE", 0, 0),
        ("MEMLOCK", 0, 0),
    ):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, hard))
    resource.setrlimit(_MESSAGE_QUEUES, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, 2**16)


def module(name: str) -> dict:
    """Return the namespace of a new module that `import` finds under `name`."""
    made = type(sys)(name)
    sys.modules[name] = made
    return vars(made)


def text_of(error: BaseException) -> str:
    """Return the message of an exception, cut to 200 characters, whatever its class makes of itself."""
    try:
        text = str(str(error))
    except BaseException as second:
        text = f"({type(second).__name__} in the text of the exception)"
    return str.encode(text[:200], "utf-8", "replace").decode()


def told(error: BaseException) -> str:
    """Return class and message of an exception."""
    return f"{type(error).__name__}: {text_of(error)}".removesuffix(": ")[:200]
