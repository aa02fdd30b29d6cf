"""Metric models whose weights are downloaded or installed: one file each, the only one that knows its model."""

from collections.abc import Sequence
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.scoring.metric_models import MetricModel
from cfglab.file_input import given_path
from cfglab.metrics.registry import METRICS
from cfglab.schedules.fields import nearest


def metric_models_of(metrics: Sequence[str], weights: str | None = None, device: str = "auto") -> list[MetricModel]:
    """The metric models that measure some metrics, each once.

    Args:
        metrics: The names of metrics.
        weights: A hub id or folder in place of the model's own weights.
        device: A torch device, or "auto".

    Returns:
        The metric models.

    Raises:
        InputError: A metric has no model, `weights` are given for several models, or a model cannot be loaded.
    """
    from cfglab.integrations.metric_models.clip import ClipScore, PickScore
    from cfglab.integrations.metric_models.dinov2 import DinoV2
    from cfglab.integrations.metric_models.image_reward import ImageReward
    from cfglab.integrations.metric_models.inception import Inception
    from cfglab.pipelines.loading.load import find_device

    makers: tuple[Any, ...] = (ClipScore, PickScore, ImageReward, DinoV2, Inception)
    maker_of = {metric: maker for maker in makers for metric in maker.metrics}
    for metric in metrics:
        if metric not in maker_of:
            reason = "every run of scenes has it" if metric in METRICS else nearest(metric, maker_of) or "it is unknown"
            raise InputError(f"metric '{metric}': {reason}; score with {', '.join(maker_of)}.")
    if weights is not None and weights.startswith(("/", ".", "~")) and not given_path(weights).exists():
        raise InputError(f"--weights {weights}: there is no such folder; give a folder with the weights, or a hub id.")
    chosen_makers = dict.fromkeys(maker_of[metric] for metric in metrics)
    if weights is not None and len(chosen_makers) > 1:
        raise InputError(
            f"--weights {weights}: of one metric model, and {len(chosen_makers)} are asked for; score them one by one."
        )
    return [maker(weights, str(find_device(device))) for maker in chosen_makers]
