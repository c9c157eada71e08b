from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from selfstudy.core.errors import MachineError
from selfstudy.signals.sandbox.calls import CLONE, CLONE3, DENIED, MACHINES, SOCKET, call_filter

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
COLUMNS = ("x86_64", "aarch64")


def outcome(program: bytes, number: int, architecture: int, argument: int = 0) -> int:
    """Run a filter as the kernel does: a plain interpreter of its few instructions."""
    data = struct.pack("=IIQQ", number & 0xFFFFFFFF, architecture, 0, argument & (2**64 - 1))
    lines = list(struct.iter_unpack("=HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, then, otherwise, value = lines[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return value
        else:
            tests = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            at += then if tests[code] else otherwise


@pytest.mark.parametrize("machine", COLUMNS)
def test_only_what_is_listed_is_denied(machine: str) -> None:
    """Oracle: the table of numbers, over all calls below 500."""
    column, architecture = MACHINES[machine]
    program = call_filter(machine)
    denied = {numbers[column] for numbers in DENIED.values()} - {None}
    conditional = {CLONE[column], SOCKET[column]}
    for number in range(500):
        got = outcome(program, number, architecture)
        if number == CLONE3[column]:
            assert got == REFUSE | errno.ENOSYS
        else:
            assert got == (REFUSE | errno.EPERM if number in denied | conditional else ALLOW), number


@pytest.mark.parametrize("machine", COLUMNS)
def test_threads_and_local_sockets_are_allowed(machine: str) -> None:
    """Oracle: the flags that glibc gives for a thread and for a fork, and the families of sockets."""
    column, architecture = MACHINES[machine]
    program = call_filter(machine)
    assert outcome(program, CLONE[column], architecture, 0x3D0F00) == ALLOW
    assert outcome(program, CLONE[column], architecture, 0x1200011) == REFUSE | errno.EPERM
    assert outcome(program, SOCKET[column], architecture, 1) == ALLOW
    for family in (0, 2, 10, 16, 17, 38):
        assert outcome(program, SOCKET[column], architecture, family) == REFUSE | errno.EPERM


def test_calls_of_another_machine_end_the_process() -> None:
    """Oracle: the kernel's names of architectures; numbers of the x32 table are refused."""
    program = call_filter("x86_64")
    assert outcome(program, 20, 0x40000003) == KILL
    assert outcome(program, 0x40000000 + 39, MACHINES["x86_64"][1]) == REFUSE | errno.EPERM
    assert outcome(program, -1, MACHINES["x86_64"][1]) == REFUSE | errno.EPERM


@pytest.mark.parametrize(
    ("header", "column", "pattern"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0, r"__NR_(\w+) (\d+)"),
        ("/usr/include/asm-generic/unistd.h", 1, r"__NR(?:3264)?_(\w+)\s+(\d+)"),
    ],
)
def test_numbers_are_those_of_the_headers(header: str, column: int, pattern: str) -> None:
    """Oracle: the kernel's own header, where it is installed."""
    if not Path(header).exists():
        pytest.skip("no headers of the kernel here")
    numbers = {found[1]: int(found[2]) for found in re.finditer(pattern, Path(header).read_text())}
    ours = {**DENIED, "clone": CLONE, "clone3": CLONE3, "socket": SOCKET}
    assert {name: pair[column] for name, pair in ours.items()} == {name: numbers.get(name) for name in ours}


def test_an_unknown_machine_is_refused() -> None:
    """Oracle: the message names the machine."""
    with pytest.raises(MachineError, match="riscv64"):
        call_filter("riscv64")
