"""One training loop for the three networks: two optimizers, averaged weights, checkpoints to resume from."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.train_demo.muon import Muon, split_parameters

LOG_EVERY = 50
SAVE_EVERY = 100
WARMUP_STEPS = 30
AVERAGE_WARMUP = 20  # steps after which the average has forgotten most of the random start


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and how fast: the rates stay constant, then fall linearly over the last `decay_steps`."""

    steps: int
    decay_steps: int
    muon_lr: float
    adam_lr: float
    average: float  # share of the averaged weights that a step keeps

    def factor(self, step: int) -> float:
        """Of the learning rates, at a step counted from 0."""
        return min((step + 1) / WARMUP_STEPS, 1.0, max((self.steps - step) / self.decay_steps, 0.02))


def train(
    model: nn.Module,
    loss: Callable[[np.random.Generator], torch.Tensor],
    schedule: Schedule,
    checkpoint: Path,
    seed: int = 0,
) -> None:
    """Train `model` on `loss`, which draws its own batch; it ends with the averaged weights.

    Continues from `checkpoint` where there is one. Random numbers depend on the seed and the step they resume at.
    """
    average = copy.deepcopy(model)
    matrices, others = split_parameters(model)
    optimizers = [Muon(matrices, schedule.muon_lr), torch.optim.Adam(others, schedule.adam_lr, betas=(0.9, 0.99))]
    step = _resume(checkpoint, model, average, optimizers)
    rng = np.random.default_rng([seed, step])
    torch.manual_seed(seed + step)
    losses: list[float] = []
    started_s = time.monotonic()
    while step < schedule.steps:
        _set_rates(optimizers, schedule, step)
        losses.append(_step(model, loss(rng), optimizers, others))
        step += 1
        keep = min(schedule.average, step / (step + AVERAGE_WARMUP))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if step % LOG_EVERY == 0:
            print(
                f"{checkpoint.stem} {step} {time.monotonic() - started_s:.0f}s loss {np.mean(losses):.5f}", flush=True
            )
            losses.clear()
        if step % SAVE_EVERY == 0 or step == schedule.steps:
            _save(checkpoint, model, average, optimizers, step)
    model.load_state_dict(average.state_dict())


def _set_rates(optimizers: list[torch.optim.Optimizer], schedule: Schedule, step: int) -> None:
    for optimizer, rate in zip(optimizers, (schedule.muon_lr, schedule.adam_lr), strict=True):
        optimizer.param_groups[0]["lr"] = rate * schedule.factor(step)


def _step(
    model: nn.Module, loss: torch.Tensor, optimizers: list[torch.optim.Optimizer], clipped: list[nn.Parameter]
) -> float:
    """One update; Muon's steps have a fixed size, so only Adam's gradients are clipped."""
    model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(clipped, 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def _save(path: Path, model: nn.Module, average: nn.Module, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """Written aside and renamed: an interrupted run never leaves half a file."""
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _resume(path: Path, model: nn.Module, average: nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    """Load what `_save` wrote; the step it was written at, 0 without a file."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
