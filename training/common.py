"""What every trainer here shares: an atomic checkpoint, an exponential moving average, a log that survives."""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

WORK = Path(os.environ.get("CFGLAB_TRAINING", Path.home() / ".cache/cfglab/training"))  # checkpoints, caches, logs


def save(path: Path, state: dict) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path) -> dict | None:
    """The last checkpoint, or None. Only tensors and plain values are read."""
    return torch.load(path, weights_only=True) if path.exists() else None


def checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ema: "Ema", step: int) -> None:
    state = {"model": model.state_dict(), "ema": ema.shadow, "optimizer": optimizer.state_dict(), "step": step}
    save(path, state)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ema: "Ema") -> int:
    """Bring everything back to the last checkpoint; returns its step, 0 where there is none."""
    state = load(path)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    ema.shadow = state["ema"]
    return int(state["step"])


def log(path: Path, **values: float | int | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **values})
    with path.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


class Ema:
    """Exponential moving average of a module's parameters, warming up as (1 + step) / (10 + step)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value, 1 - keep)
            else:
                self.shadow[name].copy_(value)


def one_cycle(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate: linear warm-up to `peak`, then a half cosine to one hundredth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, progress)))))


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 `(n, h, w, 3)` to float32 `(n, 3, h, w)` in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
