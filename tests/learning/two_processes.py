"""Two processes that train together, joined by gloo over loopback; accelerate works in them.

Not a test itself.

def halves(rank):                      # at the top of a test module: both processes run it
    part = batch().chunk(2)[rank]
    ...
    return {"gradient": weight.grad}   # tensors by name

first, second = in_two_processes(halves, tmp_path)
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
# What `accelerate launch` sets; the processes find each other by a file, so the port is not used.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "ACCELERATE_USE_CPU": "true",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
SECONDS = 300  # after which two processes that wait for each other are ended; a busy machine is slow


def in_two_processes(
    work: Callable[[int], dict[str, torch.Tensor]], folder: Path
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what `work(rank)` gives in process 0 and in process 1.

    Args:
        work: a function at the top of a module below `tests`; returns tensors by name.
        folder: empty, for what the processes write.
    """
    from safetensors.torch import load_file

    module = ".".join(Path(inspect.getfile(work)).resolve().relative_to(ROOT).with_suffix("").parts)
    environment = {**os.environ, **ENVIRONMENT}
    command = [sys.executable, __file__, module, work.__name__, str(folder)]
    said = [folder / f"{rank}.errors" for rank in (0, 1)]
    started = []
    for rank, errors in zip(("0", "1"), said, strict=True):
        own = {**environment, "RANK": rank, "LOCAL_RANK": rank}
        with open(errors, "w") as stream:
            started.append(subprocess.Popen([*command, rank], env=own, stderr=stream))
    try:
        for process, errors in zip(started, said, strict=True):
            assert process.wait(SECONDS) == 0, errors.read_text()
    finally:
        for process in started:
            process.kill()
            process.wait()
    first, second = (load_file(folder / f"{rank}.safetensors") for rank in (0, 1))
    return first, second


def main(module: str, name: str, folder: str, rank: str) -> None:
    """Join the other process, run the function, write its tensors."""
    from safetensors.torch import save_file

    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=int(rank), world_size=2
    )
    found = getattr(importlib.import_module(module), name)(int(rank))
    save_file(
        {key: value.detach().contiguous() for key, value in found.items()},
        Path(folder) / f"{rank}.safetensors",
    )
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
