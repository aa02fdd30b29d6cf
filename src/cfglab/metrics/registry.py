"""The words for what is measured: name, unit, direction, title, and what it says in one line."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Better = Literal["higher", "lower"]


def sign(better: Better | None) -> int:
    """Return the factor that makes larger values better.

    Args:
        better: the direction; None is treated as "higher".

    Returns:
        -1 where lower is better, else 1.

    Examples:
        >>> max([0.3, 0.1], key=lambda value: sign("lower") * value)
        0.1
    """
    return -1 if better == "lower" else 1


class Metric(BaseModel):
    """One measured quantity.

    Attributes:
        name: the name in text, JSON and SQLite.
        unit: the unit; "share" is a number from 0 to 1 that is shown in per cent.
        better: the better direction; None where neither is better by itself.
        title: the name in reports.
        says: one sentence on what the metric measures.
        of: what carries the number: one image (paired by prompt and seed), the images of one prompt (averaged over
            prompts), or the whole set of a setting.
        model: the metric model that `cfglab score` downloads, with its size; empty where every run has the metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    better: Better | None
    title: str
    says: str
    of: Literal["image", "prompt", "set"] = "image"
    model: str = ""

    @property
    def sign(self) -> int:
        """-1 where lower is better, else 1: `sign * value` is larger for the better value."""
        return sign(self.better)

    def is_better(self, value: float, reference: float) -> bool:
        """Return whether a value is strictly better than a reference; where no direction is better, larger is.

        Examples:
            >>> METRICS["fid"].is_better(10.0, 12.0)
            True
        """
        return self.sign * value > self.sign * reference


_ALIGNMENT = (
    ("alignment", "Alignment", "The classifier finds everything that the prompt states, whole, and nothing else."),
    ("alignment_whole", "Whole", "The classifier finds every object whole: no part missing, doubled or melted."),
    ("alignment_a", "First object", "The classifier finds the first object of the prompt."),
    ("alignment_b", "Second object", "The classifier finds the second object of the prompt."),
    ("alignment_relation", "Relation", "The classifier finds the relation of the prompt: riding, next to, above, and."),
    ("alignment_count", "Count", "The classifier finds as many objects as the prompt states: two or three."),
    ("alignment_colours", "Colours", "The classifier finds every colour that the prompt states, on its object."),
    ("alignment_background", "Background", "The classifier finds the background of the prompt."),
    ("alignment_seen", "Alignment, seen", "Alignment on compositions that training images showed."),
    ("alignment_unseen", "Alignment, unseen", "Alignment on the compositions that no training image showed."),
)

_ALL = (
    *(Metric(name=name, unit="share", better="higher", title=title, says=says) for name, title, says in _ALIGNMENT),
    Metric(
        name="saturation",
        unit="0 to 1",
        better=None,
        title="Saturation",
        says="Mean HSV saturation of the clamped image; it grows with over-guidance.",
    ),
    Metric(
        name="clipped_share",
        unit="share",
        better="lower",
        title="Clipped share",
        says="Share of pixel values outside [-1, 1] before clamping: burnt highlights and crushed shadows.",
    ),
    Metric(
        name="contrast",
        unit="luma, range 1",
        better=None,
        title="Contrast",
        says="Standard deviation of the luma over the image, before clamping (RMS contrast).",
    ),
    Metric(
        name="kid",
        unit="squared MMD",
        better="lower",
        title="KID",
        says="Distance between the features of images and of real scenes; unbiased, so it may be below 0.",
        of="set",
    ),
    Metric(
        name="fid",
        unit="squared distance",
        better="lower",
        title="FID",
        says="Fréchet distance to real scenes; biased upwards by an amount that depends on N: compare at equal N.",
        of="set",
    ),
    Metric(
        name="precision",
        unit="share",
        better="higher",
        title="Precision",
        says="Share of images that lie among the real scenes (k nearest neighbours).",
        of="set",
    ),
    Metric(
        name="recall",
        unit="share",
        better="higher",
        title="Recall",
        says="Share of real scenes that lie among the images; falls as variety is lost.",
        of="set",
    ),
    Metric(
        name="density",
        unit="ratio, real is 1",
        better="higher",
        title="Density",
        says="How many real neighbourhoods hold an image, against what real scenes would give; may exceed 1.",
        of="set",
    ),
    Metric(
        name="coverage",
        unit="share",
        better="higher",
        title="Coverage",
        says="Share of real neighbourhoods that hold at least one image.",
        of="set",
    ),
    Metric(
        name="vendi",
        unit="images",
        better="higher",
        title="Vendi score",
        says="Effective number of different images of one prompt (cosine kernel), averaged over prompts.",
        of="prompt",
    ),
    Metric(
        name="pairwise_distance",
        unit="feature units",
        better="higher",
        title="Distance within a prompt",
        says="Mean feature distance between two images of one prompt, averaged over prompts.",
        of="prompt",
    ),
)

_SAMPLES: tuple[tuple[str, str, Better | None, str, str], ...] = (
    (
        "sliced_wasserstein",
        "data units",
        "lower",
        "Wasserstein, sliced",
        "W2 between 256 samples and their class along lines; never 0 at this count: compare with no guidance.",
    ),
    (
        "mode_distance",
        "share",
        "lower",
        "Modes' distance",
        "Total variation between the modes' shares among the samples and in the class: what was moved between modes.",
    ),
    ("modes_found", "share", "higher", "Modes found", "Share of the class's modes that got a sample, outliers aside."),
    (
        "outliers",
        "share",
        "lower",
        "Outliers",
        "Share of samples where the class is less dense than at 99 of 100 of its own; 0.01 is the truth.",
    ),
    ("class_confidence", "share", "higher", "Class", "Exact probability of the class, given the sample."),
    (
        "log_density",
        "nats",
        None,
        "Log density",
        "Mean log density of the samples under their class; above the class's own is sharper, not truer.",
    ),
    ("spread", "ratio, real is 1", None, "Spread", "Standard deviation of the samples over that of their class."),
)
_EXACT = tuple(
    Metric(name=name, unit=unit, better=better, title=title, says=f"{says} Mixtures only.")
    for name, unit, better, title, says in _SAMPLES
)

_FURTHER = (
    Metric(
        name="clip_score",
        unit="100 cos",
        better="higher",
        title="CLIPScore",
        says="How well CLIP finds the image to fit the prompt; it saturates, and rewards over-guidance.",
        model="openai/clip-vit-base-patch16, 600 MB",
    ),
    Metric(
        name="pick_score",
        unit="scaled cosine",
        better="higher",
        title="PickScore",
        says="What people would pick of two images of the prompt, by a CLIP trained on their choices.",
        model="yuvalkirstain/PickScore_v1, 4 GB",
    ),
    Metric(
        name="image_reward",
        unit="standard deviations",
        better="higher",
        title="ImageReward",
        says="What people would prefer, by BLIP trained on their rankings; about 0 on average.",
        model="ImageReward-v1.0, 1.8 GB, and the package image-reward",
    ),
    Metric(
        name="kid_dinov2",
        unit="squared MMD",
        better="lower",
        title="KID, DINOv2",
        says="Distance to real images in the features of DINOv2; unbiased, so it may be below 0.",
        of="set",
        model="facebook/dinov2-large, 1.2 GB",
    ),
    Metric(
        name="fd_dinov2",
        unit="squared distance",
        better="lower",
        title="FD, DINOv2",
        says="Fréchet distance in the features of DINOv2, from 2,048 images and real ones on: compare at equal N.",
        of="set",
        model="facebook/dinov2-large, 1.2 GB",
    ),
    Metric(
        name="kid_inception",
        unit="squared MMD",
        better="lower",
        title="KID, Inception",
        says="Distance to real images in the features of Inception; unbiased, so it may be below 0.",
        of="set",
        model="torch-fidelity and its weights, 90 MB",
    ),
    Metric(
        name="fid_inception",
        unit="squared distance",
        better="lower",
        title="FID, Inception",
        says="The usual FID, from 4,096 images and real ones on; biased upwards: compare at equal N.",
        of="set",
        model="torch-fidelity and its weights, 90 MB",
    ),
)

SAMPLES = frozenset(metric.name for metric in _EXACT)
"""The metrics of the samples of a mixture; no image has them."""
METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_ALL, *_EXACT, *_FURTHER)}
