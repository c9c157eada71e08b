"""A whole pre-training step of Barlow Twins against the same step built from lightly's transforms and loss.

Method: a step is the views of 256 images, the forward pass of both, the loss, the backward pass and the
update. Ours is the step of `BarlowTwins`, its figures for the log included. lightly's is that of its example
(examples/pytorch/barlowtwins.py): a loader of Pillow images, `BYOLTransform` (the pipelines of the paper, an
image at a time), `MultiViewCollate`, `BarlowTwinsLoss`; with the same encoder and projector, the same weights
and the same optimiser. Its transforms do not normalise, because the encoder does; on grey images its steps
for colours are switched off, as ours are. Two pairs of pipelines: "paper" is lightly's default and the
paper's (crops from 8 % of the area; blur on all first and a tenth of second views; a fifth of second views
solarised), "plain" is our default without blur and solarisation. With "bf16" the networks of both sides
compute in bfloat16 under autocast, and the losses in float32.

First, on the same views, our loss and lightly's must be equal in value and in every gradient to 1e-5 of the
largest, NT-Xent likewise, and both sides' views must have the same mean and deviation to 0.02; otherwise the
benchmark fails. Then the two are timed in turn in one process on one thread, after a warm-up, the first
changing from pair to pair. A ratio is the median of the pairs' ratios, lightly's time by ours, with its
quartiles. The parts (views; forward, backward and update; loss alone with its gradient) are timed likewise.
"two cores" is steps a second of ours on two threads against lightly's loader with two processes that work
ahead while the main process trains on one or two threads, whichever is faster; blocks in turn.

lightly needs an environment of its own, as torchvision's wheel for CUDA breaks transformers on a CPU build:

    pip install torch==2.13.0 kornia numpy safetensors scikit-learn pillow tqdm lightning-utilities
    pip install --no-deps torchvision==0.28.0 lightly==1.6.0 lightly-utils==0.0.2 .
    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/barlow_step.py [--pairs 15] [--json PATH]
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from selfstudy.core.machine import hardware, versions
from selfstudy.core.random import stream_key
from selfstudy.data.image_sets import UNKNOWN, ImageSet
from selfstudy.data.two_views import two_views
from selfstudy.data.views import ImageViews
from selfstudy.learning.collapse_watch import DeadColumns
from selfstudy.learning.contrastive import nt_xent
from selfstudy.learning.pretraining import Pretraining, trial
from selfstudy.learning.redundancy import barlow_loss, cross_correlation
from selfstudy.methods.representation.barlow_twins import BarlowTwins
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.convolution import ConvEncoder, ResidualEncoder
from selfstudy.models.encoders.heads import projector

BATCH, IMAGES = 256, 2048
TEMPERATURES = (0.1, 0.5)  # of NT-Xent
CLOSE, ALIKE = 1e-5, 0.02
PIPELINES = {
    "paper": (ImageViews(crop=(0.08, 1.0), blur=1.0), ImageViews(crop=(0.08, 1.0), blur=0.1, solarise=0.2)),
    "plain": (ImageViews(), ImageViews()),
}
Precision = Literal["fp32", "bf16"]
CONDITIONS: list[tuple[int, int, str, type[ImageEncoder], Precision]] = [
    (1, 28, "paper", ConvEncoder, "fp32"),
    (1, 28, "plain", ConvEncoder, "fp32"),
    (3, 32, "paper", ConvEncoder, "fp32"),
    (3, 32, "plain", ConvEncoder, "fp32"),
    (3, 32, "paper", ResidualEncoder, "fp32"),
    (1, 28, "paper", ConvEncoder, "bf16"),
    (3, 32, "paper", ConvEncoder, "bf16"),
]
PEERS = ("lightly", "torchvision")


def declare_operators() -> None:
    """Declare what torchvision's build for CUDA would have registered, so that it loads on a CPU build."""
    if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_KEPT"] = library  # the declarations last as long as it does


def drawn_images(channels: int, size: int) -> ImageSet:
    """Return smooth random pictures as bytes."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((IMAGES, channels, 7, 7), np.float32))
    fine = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return ImageSet("drawn", (fine * 255).byte().numpy(), np.full(IMAGES, UNKNOWN))


class PillowImages(Dataset):
    """The images as lightly's example has them: an array, of which each item becomes a Pillow image."""

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], list[torch.Tensor]]) -> None:
        rows = images.images.transpose(0, 2, 3, 1)
        self.rows, self.transform = (
            np.ascontiguousarray(rows[..., 0] if rows.shape[3] == 1 else rows),
            transform,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> tuple[list[torch.Tensor], int, str]:
        return self.transform(Image.fromarray(self.rows[at])), 0, ""


def lightly_transform(pipelines: tuple[ImageViews, ImageViews], channels: int, size: int) -> Any:
    """Return lightly's transform with the settings of ours."""
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform

    def settings(views: ImageViews) -> dict[str, Any]:
        colour = channels == 3
        return {
            "input_size": size,
            "min_scale": views.crop[0],
            "hf_prob": views.flip,
            "cj_prob": views.jitter,
            "cj_bright": views.brightness,
            "cj_contrast": views.contrast,
            "cj_sat": views.saturation * colour,
            "cj_hue": views.hue * colour,
            "random_gray_scale": views.grey * colour,
            "gaussian_blur": views.blur,
            "sigmas": views.sigma,
            "solarization_prob": views.solarise,
            "normalize": None,
        }

    first, second = pipelines
    return BYOLTransform(BYOLView1Transform(**settings(first)), BYOLView2Transform(**settings(second)))


@dataclass
class Sides:
    """Both sides of a condition: what is timed, by part."""

    ours: dict[str, Callable[[], Any]]
    lightly: dict[str, Callable[[], Any]]
    checked: dict[str, float]
    loader: Callable[[int], Iterator]
    train_lightly: Callable[[list[torch.Tensor]], None]


def sides(channels: int, size: int, pipelines: str, kind: type[ImageEncoder], precision: Precision) -> Sides:
    """Build both sides and check that they do the same."""
    from lightly.data.multi_view_collate import MultiViewCollate
    from lightly.loss import BarlowTwinsLoss

    images = drawn_images(channels, size)
    first_views, other_views = PIPELINES[pipelines]
    plan = Pretraining(precision=precision)
    method = BarlowTwins(views=first_views, other_views=other_views, pretraining=plan)
    encoder = kind().made_for(images)
    head = projector(encoder.width, method.projector, key=0)
    make_views = two_views(images, method.views, method.other_views, stream_key)
    losses = method.losses(encoder, head, make_views, DeadColumns())
    modules: dict[str, nn.Module] = {"encoder": encoder, "projector": head}
    settings = {"samples": IMAGES, "settings": method.pretraining}
    step, _ = trial(modules, losses, **settings)

    twin = nn.Sequential(copy.deepcopy(encoder), copy.deepcopy(head)).train()
    criterion = BarlowTwinsLoss(lambda_param=method.redundancy_weight)
    optimizer = method.pretraining.optimizer_of(twin)
    for group in optimizer.param_groups:
        group["lr"] = method.pretraining.learning_rate
    data = PillowImages(images, lightly_transform(PIPELINES[pipelines], channels, size))

    def batches(workers: int) -> Iterator:
        loader = DataLoader(
            data, BATCH, shuffle=True, drop_last=True, num_workers=workers, collate_fn=MultiViewCollate()
        )
        while True:
            yield from loader

    def train_lightly(views: list[torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            first, second = twin(views[0]), twin(views[1])
        loss = criterion(first.float(), second.float())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    at, alone = np.arange(BATCH), batches(0)
    fixed = make_views(1, at)
    fixed_step, _ = trial(
        modules, method.losses(encoder, head, lambda step, at: fixed, DeadColumns()), **settings
    )
    embeddings = [torch.randn(BATCH, method.projector[-1], requires_grad=True) for _ in range(2)]

    def our_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return barlow_loss(cross_correlation(first, second), method.redundancy_weight)

    checked = {
        **check_losses(nn.Sequential(encoder, head), twin, fixed, our_loss, criterion),
        **check_views(make_views(0, np.arange(IMAGES)), data),
    }
    return Sides(
        ours={
            "step": step,
            "views": lambda: make_views(1, at),
            "forward, backward and update": fixed_step,
            "loss alone": lambda: our_loss(*embeddings).backward(),
        },
        lightly={
            "step": lambda: train_lightly(next(alone)[0]),
            "views": lambda: next(alone),
            "forward, backward and update": lambda: train_lightly(list(fixed)),
            "loss alone": lambda: criterion(*embeddings).backward(),
        },
        checked=checked,
        loader=batches,
        train_lightly=train_lightly,
    )


def check_losses(
    network: nn.Module, twin: nn.Module, views: tuple[torch.Tensor, ...], ours: Any, criterion: Any
) -> dict[str, float]:
    """Return how far values and gradients of the losses differ, relative to the largest; fail above 1e-5."""
    from lightly.loss import NTXentLoss

    pairs = {"Barlow Twins": (ours, criterion)}
    for temperature in TEMPERATURES:
        pairs[f"NT-Xent, temperature {temperature}"] = (
            lambda first, second, temperature=temperature: nt_xent(first, second, temperature),
            NTXentLoss(temperature=temperature),
        )
    with torch.no_grad():
        embeddings = [copy.deepcopy(network).train()(view) for view in views]
    found = {}
    for name, both in pairs.items():
        results = []
        for loss in both:
            inputs = [part.clone().requires_grad_() for part in embeddings]
            value = loss(*inputs)
            results.append([value.detach(), *torch.autograd.grad(value, inputs)])
        found[name] = largest_difference(*results)
    through = []
    for loss, part in ((ours, copy.deepcopy(network).train()), (criterion, copy.deepcopy(twin).train())):
        loss(*(part(view) for view in views)).backward()
        through.append([weight.grad for weight in part.parameters()])
    found["gradient of all weights"] = largest_difference(
        *([torch.cat([gradient.flatten() for gradient in side])] for side in through)
    )
    for name, apart in found.items():
        if not apart <= CLOSE:
            sys.exit(f"{name}: values or gradients differ by {apart:.1e} of the largest")
    return {f"difference, {name}": apart for name, apart in found.items()}


def largest_difference(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(first, second, strict=True))


def check_views(ours: tuple[torch.Tensor, ...], data: PillowImages) -> dict[str, float]:
    """Return by how much the mean and the deviation of both sides' pixels differ; fail above 0.02."""
    theirs = [torch.stack(part) for part in zip(*(data[at][0] for at in range(len(data))), strict=True)]
    found = {}
    for which, (a, b) in enumerate(zip(ours, theirs, strict=True), start=1):
        found[f"mean of view {which}"] = abs(float(a.mean() - b.mean()))
        found[f"deviation of view {which}"] = abs(float(a.std() - b.std()))
    for name, apart in found.items():
        if apart > ALIKE:
            sys.exit(f"The {name} differs by {apart:.3f}")
    return {f"difference, {name}": apart for name, apart in found.items()}


def timed(work: Callable[[], Any]) -> np.ndarray:
    """Return processor seconds and seconds of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return np.array([time.process_time() - cpu, time.perf_counter() - wall])


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> dict[str, float]:
    """Time both in turn and return medians, and the quartiles of the pairs' ratios."""
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for pair in range(-2, pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            seconds = timed((ours, theirs)[which])
            if pair >= 0:
                rows[which].append(seconds)
    return summary(np.array(rows[0]), np.array(rows[1]))


def summary(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, name in enumerate(("cpu", "clock")[-ours.shape[1] :]):
        low, middle, high = np.quantile(theirs[:, column] / ours[:, column], (0.25, 0.5, 0.75))
        found |= {
            f"ratio, {name}": middle,
            f"ratio, {name}, lower quartile": low,
            f"ratio, {name}, upper quartile": high,
            f"ours, {name}, milliseconds": 1000 * float(np.median(ours[:, column])),
            f"lightly, {name}, milliseconds": 1000 * float(np.median(theirs[:, column])),
        }
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def on_two_cores(both: Sides, blocks: int, steps: int = 12, before: int = 8) -> dict[str, Any]:
    """Time blocks of steps: ours on two threads, lightly's with two loading processes and a training one."""

    def ours() -> float:
        torch.set_num_threads(2)
        for _ in range(2):
            both.ours["step"]()
        return timed(lambda: [both.ours["step"]() for _ in range(steps)])[1]

    def theirs(threads: int) -> float:
        torch.set_num_threads(threads)
        loader = both.loader(2)
        for _ in range(before):  # until what the processes had prepared is used up
            both.train_lightly(next(loader)[0])
        return timed(lambda: [both.train_lightly(next(loader)[0]) for _ in range(steps)])[1]

    rows = np.array([[ours(), theirs(1), theirs(2)] for _ in range(blocks)]) / steps
    torch.set_num_threads(1)
    best = 1 + int(np.median(rows[:, 2]) < np.median(rows[:, 1]))
    return {"threads of lightly's training": best, **summary(rows[:, :1], rows[:, best : best + 1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if any(importlib.util.find_spec(peer) is None for peer in PEERS):
        sys.stdout.write("Left out: lightly is not in this environment; see the head of barlow_step.py.\n")
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    declare_operators()
    conditions: dict[str, Any] = {}
    for channels, size, pipelines, kind, precision in CONDITIONS:
        both = sides(channels, size, pipelines, kind, precision)
        found: dict[str, Any] = {"checked": both.checked}
        for part, ours in both.ours.items():
            found[part] = in_turn(ours, both.lightly[part], options.pairs)
        if kind is ConvEncoder and pipelines == "paper":
            found["step, two cores"] = on_two_cores(both, max(3, options.pairs // 3))
        name = f"{size}x{size}x{channels}, {pipelines} views, {kind.kind} encoder, {precision}"
        conditions[name] = found
    result = {
        "compared": conditions,
        "batch": BATCH,
        "pairs": options.pairs,
        "threads": 1,
        "load": os.getloadavg()[0],
        "versions": {
            **versions(),
            **{peer: importlib.metadata.version(peer) for peer in (*PEERS, "kornia", "pillow")},
        },
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
