"""What every trainer shares: checkpoints, Muon, averages of weights, a log. Torch alone."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

CHECKPOINT_SECONDS = 300


def work() -> Path:
    """The folder of checkpoints, caches, logs and sheets."""
    return Path(os.environ.get("CFGLAB_TRAINING2", Path.home() / ".cache/cfglab/training2"))


def device_of(name: str | None = None) -> torch.device:
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def set_up(device: torch.device, seed: int) -> None:
    torch.manual_seed(seed)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@cache
def has_bfloat16() -> bool:
    """Whether the processor has instructions that multiply in bfloat16."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def autocast(device: torch.device, on_cpu: bool = False) -> torch.autocast:
    """bfloat16 on a GPU; with `on_cpu` also on a CPU that has bfloat16 instructions."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or (on_cpu and has_bfloat16()))


def attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU the two products written out: for so few tokens faster than the fused kernel, whose backward is slow."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """A checkpoint, or None. Only tensors and plain values are read."""
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


def checkpoint(weights: dict[str, Tensor], step: int, minutes: float, done: bool) -> dict[str, Any]:
    """A run's checkpoint of weights alone: without the optimizer's state, each average with memory of its own."""
    averages = [{key: value.clone() for key, value in weights.items()} for _ in PowerAverages.SIGMAS]
    return {"model": weights, "averages": averages, "step": step, "first": 0, "minutes": minutes, "done": done}


def need(name: str, command: str) -> dict[str, Any]:
    state = load(work() / name)
    if state is None:
        raise SystemExit(f"{work() / name}: not there yet; run `python -m training {command}` first")
    return state


def log(name: str, **values: float | int | str) -> None:
    work().mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **values})
    with (work() / name).open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


def sheet(pictures: Tensor, columns: int) -> Tensor:
    """uint8 `(n, 3, h, w)` to one image, row by row."""
    missing = -len(pictures) % columns
    pictures = torch.cat([pictures, pictures.new_full((missing, *pictures.shape[1:]), 255)])
    rows = [torch.cat(list(row), -1) for row in pictures.split(columns)]
    return torch.cat(rows, -2)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices `(n, rows, columns)`, roughly: Newton-Schulz steps, as in Muon.

    In bfloat16 where the machine multiplies in it, else in float32 on the Gram matrix: a third of the work for wide
    matrices.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    short = matrices.is_cuda or has_bfloat16()
    x = matrices.bfloat16() if short else matrices.float()
    turned = x.shape[-2] > x.shape[-1]
    x = x.mT if turned else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if short:
        for _ in range(steps):
            gram = x @ x.mT
            x = a * x + (b * gram + c * gram @ gram) @ x
    else:
        gram, unit, product = x @ x.mT, torch.eye(x.shape[-2]), None
        for step in range(steps):
            factor = a * unit + b * gram + c * gram @ gram
            product = factor if product is None else factor @ product
            if step < steps - 1:
                gram = factor @ gram @ factor
        x = product @ x if product is not None else x
    return (x.mT if turned else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels (as matrices), AdamW for the rest and for embeddings and ends.

    The update of a matrix is scaled to the size of an AdamW update (2502.16982), so one learning rate serves both.
    torch's own Muon takes two-dimensional parameters only. Matrices of one shape are made orthogonal together.
    """

    def __init__(self, model: nn.Module, adam: Callable[[str], bool], weight_decay: float = 0.01) -> None:
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, value in model.named_parameters():
            if value.requires_grad:
                is_matrix = value.ndim >= 2 and min(value.shape[0], value[0].numel()) >= 16 and not adam(name)
                (matrices if is_matrix else others).append(value)
        groups = [{"params": matrices, "muon": True}, {"params": others, "muon": False}]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": 1e-3, "weight_decay": weight_decay, "momentum": 0.95, "betas": (0.9, 0.99), "step": 0},
        )

    @torch.no_grad()
    def step(self, _closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            params = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["muon"] else self._adam)(params, group)

    def _muon(self, params: list[Tensor], group: dict[str, Any]) -> None:
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            assert p.grad is not None
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
            shapes.setdefault((update.shape[0], update.shape[1]), []).append((p, update))
        for (rows, columns), members in shapes.items():
            updates = orthogonal(torch.stack([update for _, update in members]))
            scale = 0.2 * math.sqrt(max(rows, columns))
            for (p, _), update in zip(members, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view(p.shape), alpha=-group["lr"] * scale)

    def _adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for p in params:
            state = self.state[p]
            if not state:
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        means = [self.state[p]["mean"] for p in params]
        squares = [self.state[p]["square"] for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        torch._foreach_lerp_(means, grads, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, grads, grads, 1 - second)
        step = group["step"]
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, math.sqrt(1 - second**step))
        torch._foreach_add_(roots, 1e-8)
        torch._foreach_addcdiv_(params, means, roots, value=-group["lr"] / (1 - first**step))

    def set_rate(self, rate: float) -> None:
        for group in self.param_groups:
            group["lr"] = rate


class PowerAverages:
    """Two averages of the weights with power-function profiles, from which any other is made afterwards.

    Karras et al. (2312.02696): an average whose width is a fixed share `sigma` of the run so far; snapshots of the two
    give, by least squares, the average of any width (`posthoc.py`). It needs no warm-up.
    """

    SIGMAS = (0.05, 0.10)

    def __init__(self, model: nn.Module) -> None:
        weights = {name: value.detach().float().clone() for name, value in model.state_dict().items()}
        self.shadows = [weights, {name: value.clone() for name, value in weights.items()}]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After step `step`, counted from one."""
        now = [value.to(torch.float32) for value in model.state_dict().values()]
        for sigma, shadow in zip(self.SIGMAS, self.shadows, strict=True):
            keep = (1 - 1 / step) ** (gamma_of(sigma) + 1) if step > 1 else 0.0
            torch._foreach_lerp_(list(shadow.values()), now, 1 - keep)


def gamma_of(sigma: float) -> float:
    """The exponent of the power function whose relative standard deviation is `sigma`."""
    low, high = 0.0, 1e4
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        width = math.sqrt((middle + 1) / ((middle + 2) ** 2 * (middle + 3)))
        low, high = (middle, high) if width > sigma else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is, in steps or (on a machine that is lent by the minute) in minutes, whichever ends first."""

    batch: int
    peak: float
    steps: int
    minutes: float = math.inf
    fall: float = 0.3  # the last share of the run, over which the learning rate falls to nothing
    warmup: int = 100
    true: float = 0.0  # the first share of the run, in which no caption is another scene's
    partial: bool = False  # a shorter run than is planned: the stage is not done at its end

    def rate(self, step: int, progress: float) -> float:
        """Learning rate: linear warm-up, constant, linear fall."""
        return self.peak * min(1.0, (step + 1) / self.warmup, max(0.002, (1 - progress) / self.fall))


class Run:
    """One training run: the step, its checkpoint, its log. Resumes by itself; saves every five minutes and at the end.

    `begin`: the run whose checkpoint this one starts from while it has none of its own.
    """

    def __init__(
        self, name: str, model: nn.Module, optimizer: Muon, device: torch.device, plan: Plan, begin: str | None = None
    ) -> None:
        self.name, self.model, self.optimizer, self.plan = name, model, optimizer, plan
        self.averages = PowerAverages(model)
        self.path = work() / f"{name}.pt"
        self.step, self.spent, self.first = 0, 0.0, 0
        state = load(self.path, device)
        if state is None and begin is not None:
            state = need(f"{begin}.pt", begin)
            state.update(first=state["step"], minutes=0.0)
        if state is not None:
            model.load_state_dict(state["model"])
            if "optimizer" in state:  # not in what `pack.py` carried here
                optimizer.load_state_dict(state["optimizer"])
            # in the order of the model, which the averages are updated in: a file may have another
            self.averages.shadows = [
                {name: shadow[name].float() for name in model.state_dict()} for shadow in state["averages"]
            ]
            self.step, self.spent, self.first = state["step"], state["minutes"], state.get("first", 0)
        self.started = self.saved = time.time()
        self.sums: dict[str, Tensor] = {}
        self.counted = 0
        self.stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        """Asked to end: finish the step, save, leave."""
        self.stopped = True

    @property
    def minutes(self) -> float:
        """Minutes of training in all, those before the last resumption included."""
        return self.spent + (time.time() - self.started) / 60

    @property
    def progress(self) -> float:
        """The share of the plan that is done."""
        return min(1.0, max((self.step - self.first) / self.plan.steps, self.minutes / self.plan.minutes))

    def steps(self, minutes: float) -> Iterator[int]:
        """Step numbers until the plan is done or the time is over; sets the learning rate; saves either way."""
        end = time.time() + 60 * minutes
        while self.progress < 1 and time.time() < end and not self.stopped:
            self.optimizer.set_rate(self.plan.rate(self.step, self.progress))
            yield self.step
            self.step += 1
            self.averages.update(self.model, self.step)
            if self.step % 16 == 0 and time.time() - self.saved > CHECKPOINT_SECONDS:
                self.save()
        self.save()

    def learn(self, loss: Tensor, limit: float = 1.0) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averages": self.averages.shadows,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "first": self.first,
            "minutes": self.minutes,
            "done": self.progress >= 1 and not self.plan.partial,
        }
        save(self.path, state)
        self.saved = time.time()

    def snapshot(self) -> None:
        """Both averages in float16, for an average of any width afterwards."""
        halves = [{name: value.half() for name, value in shadow.items()} for shadow in self.averages.shadows]
        save(work() / "snapshots" / f"{self.name}-{self.step:07d}.pt", {"averages": halves, "step": self.step})

    def record(self, every: int, **values: Tensor) -> None:
        """Mean values of the last `every` steps into the log; call once a step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        self.counted += 1
        if self.counted == every:
            means = {name: round(value.item() / every, 5) for name, value in self.sums.items()}
            log(f"{self.name}.log", step=self.step + 1, **means, minutes=round(self.minutes, 2))
            self.sums, self.counted = {}, 0
