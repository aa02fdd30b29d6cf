"""The set metrics again, written from the papers as plain loops over rows: slow, obvious, sharing no code."""

import math

import numpy as np
from scipy.linalg import sqrtm


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(x, y, strict=True)))


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    return (sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3


def kid(real: np.ndarray, fake: np.ndarray) -> float:
    m, n = len(real), len(fake)
    within_real = sum(kernel(real[i], real[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_fake = sum(kernel(fake[i], fake[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_real + within_fake - 2 * sum(kernel(x, y) for x in real for y in fake) / (m * n)


def fid(real: np.ndarray, fake: np.ndarray) -> float:
    gap = real.mean(0) - fake.mean(0)
    a, b = np.cov(real.T), np.cov(fake.T)
    return float(gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(a @ b))))


def radius(rows: np.ndarray, i: int, k: int) -> float:
    return sorted(distance(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]


def in_manifold(x: np.ndarray, rows: np.ndarray, k: int) -> bool:
    return any(distance(x, rows[i]) <= radius(rows, i, k) for i in range(len(rows)))


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float]:
    return (
        sum(in_manifold(x, real, k) for x in fake) / len(fake),
        sum(in_manifold(x, fake, k) for x in real) / len(real),
    )


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float]:
    inside = [[distance(real[i], y) <= radius(real, i, k) for y in fake] for i in range(len(real))]
    return sum(map(sum, inside)) / (k * len(fake)), sum(map(any, inside)) / len(real)
