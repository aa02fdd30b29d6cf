"""Averages of weights of any width, after the run (2312.02696), from the snapshots of two averages that were kept.

python -m training.posthoc denoiser --sigma 0.08
"""

import argparse

import torch
from torch import Tensor

from training.common import PowerAverages, gamma_of, load, need, save, work


def _product(gamma_a: float, end_a: float, gamma_b: float, end_b: float) -> float:
    """The inner product of two power-function profiles, each of integral one up to its end."""
    if end_a > end_b:
        gamma_a, end_a, gamma_b, end_b = gamma_b, end_b, gamma_a, end_a
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * (end_a / end_b) ** gamma_b / end_b


def coefficients(kept: list[tuple[float, float]], sigma: float, end: float) -> Tensor:
    """How much of each kept average (its sigma, its step) makes the profile of width `sigma` at step `end`."""
    gammas = [(gamma_of(each), step) for each, step in kept]
    gram = torch.tensor([[_product(*a, *b) for b in gammas] for a in gammas], dtype=torch.float64)
    wanted = torch.tensor([_product(*a, gamma_of(sigma), end) for a in gammas], dtype=torch.float64)
    shares = torch.linalg.lstsq(gram, wanted[:, None], driver="gelsd").solution[:, 0]
    return shares / shares.sum()  # of few snapshots the least squares lose some percent


def average(name: str, sigma: float) -> dict[str, Tensor]:
    """The averaged weights of a finished or unfinished run at its last snapshot or checkpoint."""
    last = need(f"{name}.pt", name)
    states = [load(path) for path in sorted((work() / "snapshots").glob(f"{name}-[0-9]*.pt"))]
    snapshots = [state for state in states if state is not None and state["step"] < last["step"]] + [last]
    kept = [(each, float(state["step"])) for state in snapshots for each in PowerAverages.SIGMAS]
    shares = coefficients(kept, sigma, float(last["step"]))
    weights = [shadow for state in snapshots for shadow in state["averages"]]
    total: dict[str, Tensor] = {}
    for share, shadow in zip(shares.tolist(), weights, strict=True):
        for key, value in shadow.items():
            total[key] = total.get(key, torch.zeros_like(value, dtype=torch.float32)) + share * value.float()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a run, such as `denoiser`")
    parser.add_argument("--sigma", type=float, default=0.08, help="the width, as a share of the run")
    chosen = parser.parse_args()
    save(work() / f"{chosen.name}-final.pt", {"model": average(chosen.name, chosen.sigma), "sigma": chosen.sigma})


if __name__ == "__main__":
    main()
