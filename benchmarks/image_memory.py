"""Peak memory of a pre-training run over sets of images that are larger than the memory they may take.

Method: a folder of image files for each size (BMP, each file's pixels drawn), read with memory=0.1, so that a
set of more than 0.1 GiB stays on disk; Barlow Twins then makes a few steps of 128 images, and the encoder is
evaluated before and after, as `selfstudy fit` does it. Each is a process of its own, whose peak resident
memory (ru_maxrss) is the figure. The largest set is read into memory too, for comparison. The benchmark fails
where the peaks of the sets on disk differ by more than a tenth, or the largest set in memory does not take
more. The files and the stored sets are deleted at the end.

    python benchmarks/image_memory.py [--mib 64 256 1024] [--side 64] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from selfstudy.core.machine import hardware, versions

MEMORY = 0.1  # GiB
CLASSES = 4
STEPS, BATCH = 8, 128


def write_images(folder: Path, count: int, side: int) -> None:
    """Write `count` colour images of drawn pixels, in folders by class."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / str(number % CLASSES) / f"{number}.bmp")


def run_once(task: str, out: Path, images: int) -> dict[str, float]:
    """Pre-train and evaluate in this process; return its peak memory and times."""
    import selfstudy

    start = time.perf_counter()
    made = selfstudy.task(task)
    loaded = time.perf_counter() - start
    selfstudy.fit(
        "barlow-twins",
        task=made,
        model="conv?first=4",
        out=out,
        pretraining={"epochs": STEPS * BATCH / (0.7 * images), "batch": BATCH},
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "peak_mib": peak / 2**20,
        "load_seconds": loaded,
        "seconds": time.perf_counter() - start,
        "on_disk": float(not isinstance(made.train.images, np.ndarray)),
    }


def in_a_process(task: str, out: Path, images: int, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", task, str(out), str(images)]
    environment = {**os.environ, "SELFSTUDY_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(mib: int, side: int, ways: dict[str, float]) -> dict[str, Any]:
    """Return the figures of a set of `mib` MiB of pixels, in each of `ways`: name -> memory in GiB."""
    count = math.ceil(mib * 2**20 / (3 * side * side))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_images(place / "images", count, side)
        figures: dict[str, Any] = {"mib": mib, "images": count}
        for way, memory in ways.items():
            task = f"images:{place / 'images'}?size={side}&memory={memory}&labels=400"
            figures[way] = in_a_process(task, place / way, count, place / "cache")
            shutil.rmtree(place / "cache", ignore_errors=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        task, out, images = options.child
        sys.stdout.write(json.dumps(run_once(task, Path(out), int(images))) + "\n")
        return
    limited, largest = {"limited": MEMORY}, max(options.mib)
    sets = [
        measure(mib, options.side, {**limited, "in memory": math.inf} if mib == largest else limited)
        for mib in sorted(options.mib)
    ]
    peaks = [made["limited"]["peak_mib"] for made in sets if made["limited"]["on_disk"]]
    result = {
        "memory_gib": MEMORY,
        "side": options.side,
        "batch": BATCH,
        "steps": STEPS,
        "sets": sets,
        "largest_over_smallest_on_disk": max(peaks, default=1.0) / min(peaks, default=1.0),
        "ratio": sets[-1]["in memory"]["peak_mib"] / sets[-1]["limited"]["peak_mib"],
    }
    text = json.dumps({**result, "versions": versions(), "hardware": hardware()}, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")
    if result["largest_over_smallest_on_disk"] > 1.1 or (peaks and result["ratio"] < 1):
        sys.exit("the peak memory grows with the set, although it stays on disk")


if __name__ == "__main__":
    main()
