"""What the scripts of this folder share: their arguments, the look of their images, and saying what was found."""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

INK, SOFT, WARM, COOL, GREEN = "#1f2933", "#b8c0c8", "#d1495b", "#2274a5", "#3a7d44"
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.grid": True,
        "grid.color": "#e4e7eb",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
    }
)


def arguments(samples):
    """`--samples N` and `--out FOLDER`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=samples, help=f"samples a setting [{samples}]")
    parser.add_argument("--out", type=Path, default=Path("docs/images/lab"), help="where the image goes")
    return parser.parse_args()


def save(figure, out, name):
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    print(f"image: {out / name}.png")


def legend(figure, axes):
    """One legend for all plots, below them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def expect(claim, holds):
    """Stop where a claim that the exact mixture bears out no longer holds."""
    assert holds, f"not so: {claim}"
    print(f"holds: {claim}")


def contradicted(claim, holds):
    """A published claim that the exact mixture does not bear out; stop where it suddenly does."""
    assert not holds, f"holds now, rewrite the page: {claim}"
    print(f"does not hold here: {claim}")
