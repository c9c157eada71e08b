"""Hostile programs as data: what each tries, and what is to become of it.

SECRET, PORT, PID and VARIABLE stand for a file, a listening port, a process and a variable of the host.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

from selfstudy.signals.sandbox import ENDINGS

SQUARE = ("assert f(2) == 4", "assert f(3) == 9")
HONEST = "def f(x): return x * x"


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One program, and the verdicts that are right."""

    code: str
    tests: tuple[str, ...] = SQUARE
    passed: tuple[bool, ...] = (False, False)
    endings: tuple[str, ...] = field(default=ENDINGS)


def crash(code: str) -> Hostile:
    return Hostile(code=code, endings=("crashed",))


def slow(code: str) -> Hostile:
    return Hostile(code=code, tests=SQUARE[:1], passed=(False,), endings=("timeout",))


def forged(code: str, *tests: str) -> Hostile:
    """A wrong program that tries to pass all the same; every test runs, and fails."""
    return Hostile(code=code, tests=tests or SQUARE, passed=(False,) * len(tests or SQUARE), endings=("ran",))


def lost(code: str) -> Hostile:
    """A wrong program that damages its own process: no test passes, however it ends."""
    return Hostile(code=code)


def refused(action: str, *errors: str) -> Hostile:
    """A program that says which error it met: one of `errors`, the classes of OSError as PermissionError."""
    lines = [f"    {line}" for line in action.strip().splitlines()]
    body = "\n".join(f"    {line}" for line in lines)
    code = f"import os, sys\ndef f(x):\n    try:\n{body}\n    except BaseException as error:\n"
    code += "        return type(error).__name__\n    return 'done'\n"
    test = f"said = f(2)\nassert said in {errors!r}, said"
    return Hostile(code=code, tests=(test,), passed=(True,), endings=("ran",))


def system_call(number_x86: int, number_arm: int, *arguments: int) -> Hostile:
    """A system call that gives EPERM, by its number."""
    number = number_x86 if platform.machine() == "x86_64" else number_arm
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"def f(x):\n    got = libc.syscall({', '.join(map(str, (number, *arguments)))})\n"
        "    return (got, ctypes.get_errno())\n"
    )
    return Hostile(code=code, tests=("assert f(2) == (-1, 1), f(2)",), passed=(True,), endings=("ran",))


ENDS_EARLY = {
    "exit before the tests": Hostile(code="import sys; sys.exit(0)", endings=("raised",)),
    "os._exit before the tests": crash("import os; os._exit(0)"),
    "exit in a call": forged("import sys\ndef f(x): sys.exit(0)"),
    "os._exit in a call": crash("import os\ndef f(x): os._exit(0)"),
    "SystemExit raised": forged("def f(x): raise SystemExit(0)"),
    "KeyboardInterrupt raised": forged("def f(x): raise KeyboardInterrupt"),
    "exit at the end of Python": forged(
        "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 5"
    ),
    "exit by an alarm": forged(
        "import os, signal\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\ndef f(x): return 5"
    ),
    "kills itself": crash("import os\ndef f(x): os.kill(os.getpid(), 9)"),
    "stops itself": slow("import os\ndef f(x): os.kill(os.getpid(), 19); return 4"),
    "aborts": crash("import os\ndef f(x): os.abort()"),
    "closes all files": crash("import os\nos.closerange(0, 1000)\ndef f(x): return x * x"),
    "closes all files in a call": crash("import os\ndef f(x): os.closerange(0, 1000); return x * x"),
    "clears the builtins": crash("import builtins\nbuiltins.__dict__.clear()\ndef f(x): return 4"),
    "becomes another program": crash("import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])"),
    "a machine-code crash": crash("import ctypes\ndef f(x): ctypes.string_at(0)"),
    "a crash of the C stack": crash(
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n"
        "    def __getattr__(self, name): return getattr(self, name + 'x')\n"
        "def f(x):\n    value = ()\n    for _ in range(3 * 10**5): value = (value,)\n"
        "    return hash(value) or repr(value)"
    ),
}

FORGES = {
    "an object equal to everything": forged(
        "class Same:\n    def __eq__(self, other): return True\n    __ne__ = lambda *_: False\n"
        "    __hash__ = None\ndef f(x): return Same()"
    ),
    "an int equal to everything": forged(
        "class Same(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        "def f(x): return Same(5)"
    ),
    "a float equal to everything": forged(
        "class Same(float):\n    def __eq__(self, other): return True\n    __hash__ = float.__hash__\n"
        "def f(x): return Same(5)"
    ),
    "a text equal to everything": forged(
        "class Same(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
        "def f(x): return Same('b')",
        "assert f(2) == 'a'",
    ),
    "a list equal to everything": forged(
        "class Same(list):\n    def __eq__(self, other): return True\n    __len__ = lambda self: 1\n"
        "    __iter__ = lambda self: iter([4])\ndef f(x): return Same([5])",
        "assert f(2) == [4]",
    ),
    "a dict that lies about its items": forged(
        "class Same(dict):\n    def items(self): return {1: 4}.items()\n"
        "    __iter__ = lambda self: iter({1: 4})\n    def __eq__(self, other): return True\n"
        "def f(x): return Same({1: 5})",
        "assert f(2) == {1: 4}",
    ),
    "a lying class attribute": forged(
        "class Same:\n    __class__ = int\n    def __eq__(self, other): return True\n"
        "    def __index__(self): return 5\ndef f(x): return Same()"
    ),
    "not a number": forged(
        "def f(x): return float('nan')", "assert abs(f(2) - 4) < 1e-6", "assert f(2) == 4"
    ),
    "NotImplemented": forged("def f(x): return NotImplemented"),
    "a generator": forged("def f(x): yield x * x"),
    "its own name as a value": forged("f = 4", "assert f(2) == 4", "assert f() == 4"),
    "a builtin of the tests": forged(
        "abs = lambda x: 0\nlen = abs\nall = any = bool = lambda x: True\ndef f(x): return 5",
        "assert abs(f(2) - 4) < 1e-6",
        "assert all([f(2) == 4])",
    ),
    "patched builtins": forged(
        "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.all = lambda x: True\n"
        "builtins.AssertionError = type('Quiet', (BaseException,), {})\nbuiltins.print = lambda *_: None\n"
        "builtins.__import__ = None\ndef f(x): return 5",
        "assert abs(f(2) - 4) < 1e-6",
        "assert all([f(2) == 4])",
    ),
    "assert that raises nothing": forged(
        "class AssertionError(Exception): pass\n__debug__\ndef f(x): return 5"
    ),
    "an import hook": forged(
        "import sys\nclass Hook:\n    def find_spec(self, name, path=None, target=None):\n"
        "        raise SystemExit(0)\nsys.meta_path.insert(0, Hook())\ndef f(x): return 5",
        "import colorsys\nassert f(2) == 4",
    ),
    "replaced modules": forged(
        "import sys\nfor name in list(sys.modules):\n"
        "    if 'sandbox' in name or name in ('tests', '__main__'):\n"
        "        vars(sys.modules[name]).update(_outcome=lambda *_: b'P', told=lambda *_: '', passed=True)\n"
        "def f(x): return 5"
    ),
    "a module that shadows": forged(
        "open('/tmp/math.py', 'w').write('isclose = lambda *_: True')\n"
        "import sys; sys.path.insert(0, '/tmp')\n"
        "def f(x): return 5",
        "import math\nassert math.isclose(f(2), 4)",
    ),
    "frames of its callers": lost(
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        frame.f_globals.update(passed=True, state='ran', _answer=lambda *_: b'T')\n"
        "        frame = frame.f_back\n    return 5"
    ),
    "a tracing function": lost(
        "import sys\ndef trace(frame, event, value):\n    frame.f_trace_lines = True\n"
        "    if 'answer' in frame.f_locals: frame.f_locals['answer'] = b'T'\n    return trace\n"
        "sys.settrace(trace)\ndef f(x): return 5"
    ),
    "a search for the tests": forged(
        "import gc\ndef f(x):\n    texts = [t for o in gc.get_objects() if isinstance(o, dict)\n"
        "             for t in list(o.values()) if isinstance(t, str) and 'assert f(' '2) ==' in t]\n"
        "    return 4 if texts and x == 2 else 5"
    ),
    "verdicts on every descriptor": Hostile(
        code="import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\0\\0\\0\\1P' * 4)\n"
        "    except OSError: pass\ndef f(x): return 5"
    ),
    "names that nobody asked for": Hostile(
        code="import os, sys\nplain = sys.modules['selfstudy.signals.sandbox.plain']\n"
        "given = {name: ('call',) for name in ('f', 'abs', 'all', 'isinstance')}\n"
        "given['__builtins__'] = ('value', {'abs': 1})\nfor fd in range(3, 64):\n"
        "    try: plain.send(fd, plain.encode(('ran', '', given)))\n    except plain.Ended: continue\n"
        "    while True:\n        name, _, _ = plain.decode(plain.receive(fd, 10**6))\n"
        "        plain.send(fd, plain.encode(('value', {'f': 5, 'abs': 0}.get(name, True))))",
        tests=("assert abs(f(2) - 4) < 1e-6", "assert all([f(2) == 4])", "assert isinstance(f(2), str)"),
        passed=(False,) * 3,
        endings=("ran",),
    ),
    "answers of a shape of its own": forged(
        "import os, sys\nplain = sys.modules['selfstudy.signals.sandbox.plain']\n"
        "code = sys.modules['selfstudy.signals.sandbox.guest_code']\n"
        "answers = [('value',), ('raised', ['ValueError'], {}), ('raised', 'print', '')]\n"
        "answers += [('raised', 'type', 'x')]\n"
        "answers = [plain.encode(one) for one in answers]\n"
        "code._answer = lambda *_: answers.pop()\ndef f(x): return 5",
        *["assert f(2) == 4"] * 4,
    ),
    "truth on every descriptor": Hostile(
        code="import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\0\\0\\0\\1T' * 4)\n"
        "    except OSError: pass\ndef f(x): return 5"
    ),
    "StopIteration in a loop of the test": forged(
        "def f(x): raise StopIteration",
        "for got, want in zip(map(f, [2, 3]), [4, 9]): assert got == want",
        "assert all(one == 4 for one in map(f, [2]))",
    ),
    "GeneratorExit": forged("def f(x): raise GeneratorExit"),
    "an exception that is called StopIteration": forged(
        "class Odd(StopIteration): pass\nOdd.__name__ = 'Odd'\ndef f(x): raise Odd",
        "for got in map(f, [2]): assert got == 4\nassert False",
        "for got, want in zip(map(f, [2, 3]), [4, 9]): assert got == want",
    ),
    "an exception with a hostile text": forged(
        "class Odd(ValueError):\n    def __str__(self): raise SystemExit(0)\ndef f(x): raise Odd"
    ),
    "an exception with a hostile class": lost(
        "class Meta(type):\n    def __getattribute__(self, name): raise SystemExit(0)\n"
        "class Odd(Exception, metaclass=Meta): pass\ndef f(x): raise Odd"
    ),
    "a pickle": forged(
        "import pickle\nclass Bomb:\n    def __reduce__(self): return (exit, (0,))\n"
        "def f(x): return pickle.dumps(Bomb())"
    ),
    "an object that pickles to an exit": forged(
        "class Bomb:\n    def __reduce__(self): return (exit, (0,))\ndef f(x): return Bomb()"
    ),
    "a code object": forged("def f(x): return compile('4', 'x', 'eval')"),
    "changed small integers": lost(
        "import ctypes\ndef f(x):\n    ctypes.memmove(id(5) + 24, id(4) + 24, 4)\n    return 5"
    ),
}

BREAKS_THE_TALK = {
    "a message of 4 GB": crash(
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 16)\n"
        "    except OSError: pass\ndef f(x): return 5"
    ),
    "nested without end": crash(
        "import os\nbad = b'l1:' * 10**5\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, len(bad).to_bytes(4, 'big') + bad)\n"
        "    except OSError: pass\ndef f(x): return 5"
    ),
    "a set of lists": crash(
        "import os\nbad = b'S1:l0:'\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, len(bad).to_bytes(4, 'big') + bad)\n"
        "    except OSError: pass\ndef f(x): return 5"
    ),
    "half a message": slow(
        "import os, time\ndef f(x):\n    for fd in range(3, 64):\n        try: os.write(fd, b'\\0\\0')\n"
        "        except OSError: pass\n    time.sleep(1000)"
    ),
    "cyclic data": forged("def f(x):\n    a = []\n    a.append(a)\n    return a"),
    "data that double": Hostile(
        code="def f(x):\n    a = [0]\n    for _ in range(60): a = [a, a]\n    return a",
        endings=("timeout", "memory"),
    ),
}

TAKES_TIME = {
    "an endless loop before the tests": slow("while True: pass"),
    "an endless loop": slow("def f(x):\n    while True: pass"),
    "an endless loop that catches everything": slow(
        "def f(x):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass"
    ),
    "a sleep": slow("import time\ndef f(x): time.sleep(10**6)"),
    "ignored signals": slow(
        "import signal\nfor one in range(1, 65):\n    try: signal.signal(one, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ndef f(x):\n    while True: pass"
    ),
    "endless output": slow("def f(x):\n    while True: print('x' * 10**5)"),
    "endless output of errors": slow("import os\ndef f(x):\n    while True: os.write(2, b'x' * 10**5)"),
    "a regular expression": slow("import re\ndef f(x): return re.match('(a+)+b', 'a' * 50)"),
    "huge integers": slow("def f(x):\n    value = 7\n    while True: value *= value"),
    "a lock taken twice": slow(
        "import threading\nlock = threading.Lock()\ndef f(x): lock.acquire(); lock.acquire()"
    ),
    "threads that never end": slow(
        "import threading\ndef spin():\n    while True: pass\n"
        "def f(x):\n    for _ in range(8): threading.Thread(target=spin).start()\n    spin()"
    ),
    "waiting for input": refused("input()", "EOFError"),
    "deep recursion": forged("def f(x): return f(x + 1)"),
}

TAKES_MEMORY = {
    "a list without end": Hostile(
        code="def f(x):\n    kept = []\n    while True: kept.append(b'x' * 10**6 + b'y')", endings=("memory",)
    ),
    "a huge text": Hostile(code="def f(x): return 'x' * 10**12", endings=("memory",)),
    "a huge result": forged("def f(x): return 'x' * 10**7"),
    "a huge integer": forged("def f(x): return 1 << 10**8"),
    "mapped memory": refused("import mmap\nmmap.mmap(-1, 10**12)", "OSError"),
    "a file in memory": refused("os.memfd_create('x')", "PermissionError"),
    "a file in /dev/shm": refused("open('/dev/shm/x', 'w')", "OSError", "PermissionError"),
    "shared memory": refused(
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=10**9)",
        "OSError",
    ),
    "shared memory of System V": system_call(29, 194, 0, 10**9, 0o1777),
    "semaphores of System V": system_call(64, 190, 0, 32000, 0o1777),
    "message queues of System V": system_call(68, 186, 0, 0o1777),
    "a queue of messages": refused(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.mq_open(b'/x', os.O_CREAT | os.O_RDWR, 0o600, None) < 0: raise OSError",
        "OSError",
    ),
    "a large file": refused("open('/tmp/x', 'wb').write(b'x' * 10**8)", "OSError"),
    "many files": refused("for i in range(64): open(f'/tmp/{i}', 'wb').write(b'x' * 10**6)", "OSError"),
    "many open files": refused("kept = [open('/dev/null') for _ in range(1000)]", "OSError"),
    "deep source": Hostile(code="x = " + "(" * 10**5, endings=("unparsable",)),
    "long nested source": Hostile(code="x = " + "-" * 10**5 + "1", endings=("unparsable", "crashed")),
    "a zero byte in the source": Hostile(code="def f(x): return 4\0", endings=("unparsable",)),
    "half a character in the source": Hostile(code="x = '\udc80'", endings=("unparsable",)),
}

MAKES_PROCESSES = {
    "a fork": refused("os.fork()", "PermissionError"),
    "a fork bomb": Hostile(
        code="import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: pass",
        tests=SQUARE[:1],
        passed=(False,),
        endings=("timeout",),
    ),
    "a command": refused(
        "import subprocess\nsubprocess.run(['/bin/sh'])", "PermissionError", "FileNotFoundError"
    ),
    "a shell": refused("if os.system('true') != 0: raise OSError", "OSError"),
    "another process of Python": refused(
        "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=int).start()",
        "PermissionError",
    ),
    "a child that outlives it": refused(
        "if os.fork() == 0:\n    os.setsid()\n    os.fork()", "PermissionError"
    ),
    "a thread that outlives it": Hostile(
        code="import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\n"
        + HONEST,
        passed=(True, True),
        endings=("ran",),
    ),
    "threads without end": Hostile(
        code="import threading, time\nthreading.stack_size(32768)\ndef f(x):\n"
        "    while True: threading.Thread(target=time.sleep, args=(1000,)).start()",
        endings=("ran", "timeout", "memory", "crashed"),
    ),
    "signals to its parent": Hostile(
        code="import os\nfor pid in (os.getppid(), 1):\n    try: os.kill(pid, 9)\n    except OSError: pass\n"
        + HONEST,
        passed=(True, True),
        endings=("ran",),
    ),
    "signals to everybody": Hostile(
        code="import os\nfor pid in [-1, *range(3, 5000), PID]:\n    try: os.kill(pid, 9)\n"
        "    except OSError: pass\n" + HONEST,
        passed=(True, True),
        endings=("ran",),
    ),
    "a signal to the host": refused("os.kill(PID, 0)", "ProcessLookupError"),
}

LOOKS_OUTSIDE = {
    "a file of the host": refused("open('SECRET').read()", "FileNotFoundError"),
    "writing a file of the host": refused("open('SECRET', 'w')", "FileNotFoundError"),
    "the passwords": refused("open('/etc/passwd').read()", "FileNotFoundError"),
    "the home": refused("os.listdir('/home')", "FileNotFoundError"),
    "a walk through /sys": refused("os.listdir('/sys')", "FileNotFoundError"),
    "a walk through /proc": Hostile(
        code="import os\ndef f(x):\n"
        "    return sorted(int(name) for name in os.listdir('/proc') if name.isdigit())",
        tests=("assert f(2) == [1, 2], f(2)",),
        passed=(True,),
        endings=("ran",),
    ),
    "the root of the first process": refused(
        "os.listdir('/proc/1/root/etc')", "PermissionError", "FileNotFoundError"
    ),
    "what dumps of crashes run": refused(
        "open('/proc/sys/kernel/core_pattern', 'w').write('|/x')", "OSError", "PermissionError"
    ),
    "settings of the kernel": refused(
        "open('/proc/sys/kernel/hostname', 'w').write('x')", "OSError", "PermissionError"
    ),
    "a lower score for being killed": refused(
        "open('/proc/self/oom_score_adj', 'w').write('-1000')", "PermissionError", "OSError"
    ),
    "a symbolic link": refused(
        "os.symlink('SECRET', '/tmp/link')\nopen('/tmp/link').read()", "FileNotFoundError"
    ),
    "a hard link": refused("os.link(os.__file__, '/tmp/link')", "OSError"),
    "a way up": refused("os.chdir('/tmp')\nopen('../../../../../SECRET').read()", "FileNotFoundError"),
    "a device": refused("os.mknod('/tmp/disk', 0o60600, os.makedev(254, 0))", "PermissionError"),
    "a file in the root": refused("open('/x', 'w')", "OSError", "PermissionError"),
    "a file beside the interpreter": refused(
        "open(os.path.dirname(os.__file__) + '/x.py', 'w')", "OSError", "PermissionError"
    ),
    "the interpreter's own files": refused("open(os.__file__, 'a')", "OSError", "PermissionError"),
    "the host's variables": refused("os.environ['VARIABLE']", "KeyError"),
    "open files of the host": Hostile(
        code="import os\ndef f(x):\n    return {os.readlink(f'/proc/self/fd/{n}').split(':')[0]\n"
        "            for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')}",
        tests=("assert f(2) <= {'/dev/null', 'socket'}, f(2)",),
        passed=(True,),
        endings=("ran",),
    ),
    "the mode of a device": refused("os.chmod('/dev/null', 0)", "PermissionError", "OSError"),
    "the time of a device": refused("os.utime('/dev/null', (0, 0))", "PermissionError", "OSError"),
    "the terminal": refused("open('/dev/tty')", "OSError"),
    "the network": refused(
        "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)", "PermissionError"
    ),
    "packets": refused("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "PermissionError"),
    "raw packets": refused(
        "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "PermissionError"
    ),
    "talk with the kernel": refused(
        "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "PermissionError"
    ),
    "a name": refused("import socket\nsocket.getaddrinfo('localhost', 80)", "gaierror"),
    "a page": refused("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:PORT')", "URLError"),
    "a socket of the host": refused(
        "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0selfstudy-PORT')", "ConnectionRefusedError"
    ),
}

WANTS_RIGHTS = {
    "another user": refused("os.setuid(0)", "PermissionError", "OSError"),
    "another group": refused("os.setgroups([0])", "PermissionError"),
    "a higher limit": refused(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)", "ValueError"
    ),
    "a higher priority": refused("os.nice(-20)", "PermissionError"),
    "another root": refused("os.chroot('/tmp')", "PermissionError"),
    "ptrace": system_call(101, 117, 16, 1, 0, 0),
    "memory of another process": system_call(310, 270, 1, 0, 0, 0, 0, 0),
    "a mount": system_call(165, 40, 0, 0, 0, 0, 0),
    "a new mount": system_call(430, 430, 0, 0),
    "a new namespace": system_call(272, 97, 0x10000000),
    "another namespace": system_call(308, 268, 0, 0),
    "programs in the kernel": system_call(321, 280, 0, 0, 0),
    "performance counters": system_call(298, 241, 0, 0, -1, -1, 0),
    "faults by hand": system_call(323, 282, 0),
    "rings": system_call(425, 425, 8, 0),
    "keys": system_call(250, 219, 0, -3, 0),
    "a module of the kernel": system_call(313, 273, 0, 0, 0),
    "another kernel": system_call(246, 104, 0, 0, 0, 0),
    "files by handle": system_call(304, 265, 0, 0, 0),
    "a fork by its number": system_call(56, 220, 17, 0, 0, 0, 0),
}

X86 = {
    "calls of 32 bits": crash(
        "import ctypes, mmap\npage = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
        "def f(x): return call()"
    ),
    "calls of the other table": system_call(0x40000000 + 39, 0),
}

HOSTILE_TESTS = {
    "a test that exits": Hostile(
        code=HONEST,
        tests=("import os; os._exit(0)", "assert f(2) == 4", "import sys; sys.exit(0)"),
        passed=(False, True, False),
        endings=("crashed",),
    ),
    "a test without end": Hostile(
        code=HONEST,
        tests=("while True: pass", "assert f(2) == 4"),
        passed=(False, True),
        endings=("timeout",),
    ),
    "a test that crashes": Hostile(
        code=HONEST,
        tests=("import ctypes; ctypes.string_at(0)", "assert f(3) == 9"),
        passed=(False, True),
        endings=("crashed",),
    ),
    "a test that is no Python": Hostile(
        code=HONEST, tests=("assert f(2 ==", "assert f(2) == 4"), passed=(False, True), endings=("ran",)
    ),
    "a test that breaks the next": Hostile(
        code=HONEST,
        tests=(
            "global f\nf = None",
            "assert f(2) == 4",
            "import builtins; del builtins.abs",
            "assert f(3) == 9",
        ),
        passed=(True, True, True, True),
        endings=("ran",),
    ),
}

PROGRAMS: dict[str, Hostile] = {
    **ENDS_EARLY,
    **FORGES,
    **BREAKS_THE_TALK,
    **TAKES_TIME,
    **TAKES_MEMORY,
    **MAKES_PROCESSES,
    **LOOKS_OUTSIDE,
    **WANTS_RIGHTS,
    **(X86 if platform.machine() == "x86_64" else {}),
    **HOSTILE_TESTS,
}
