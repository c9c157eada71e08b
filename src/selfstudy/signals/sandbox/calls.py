"""The filter of system calls that every process in a sandbox is under, as a program of classic BPF.

Everything is allowed but what is listed: what reaches into other processes or the kernel, makes processes,
opens doors to the network, or holds memory that no limit counts. Threads are allowed, processes are not.
Sources: Linux's seccomp_filter documentation; arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h for the numbers.
"""

from __future__ import annotations

import errno
import platform
import struct

from selfstudy.core.errors import MachineError

# name: (number on x86_64, number on aarch64); None where there is none.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "fork": (57, None),
    "vfork": (58, None),
    "shmget": (29, 194),  # memory of these counts for no limit of a process
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7), "arm64": (1, 0xC00000B7)}
"""Machine: the column of numbers above, and what the kernel calls it."""

_THREAD = 0x00010000  # CLONE_THREAD
_LOCAL = 1  # AF_UNIX
_X32 = 0x40000000  # a second table of numbers on x86_64

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; the low half of argument 0


def call_filter(machine: str | None = None) -> bytes:
    """Return the filter for a machine, that of this process by default, as bwrap's --seccomp reads it.

    Raises:
        MachineError: no numbers of calls are known for the machine.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise MachineError(
            f"Code cannot be judged on a machine of the kind {machine!r}: the sandbox has a filter of system "
            "calls for x86_64 and aarch64 only."
        )
    column, name = MACHINES[machine]
    deny = _ERROR | errno.EPERM
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, name), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, deny)]
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, deny)]
    # glibc then falls back to clone, whose flags can be looked at.
    program += [(_EQUAL, 0, 1, CLONE3[column]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for call, test in ((CLONE, (_ANY_BIT, 0, 1, _THREAD)), (SOCKET, (_EQUAL, 0, 1, _LOCAL))):
        program += [(_EQUAL, 0, 4, call[column]), (_LOAD, 0, 0, _ARGUMENT), test]
        program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, deny)]
    program += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in program)
