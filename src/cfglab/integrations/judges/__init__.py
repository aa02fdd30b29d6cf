"""Judges with weights of their own, to be downloaded or installed: one file each, the only one that knows its model."""

from collections.abc import Sequence
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.scoring.metric_models import MetricModel
from cfglab.metrics.registry import METRICS
from cfglab.schedules.fields import nearest


def judges_of(metrics: Sequence[str], weights: str | None = None, device: str = "auto") -> list[MetricModel]:
    """The judges that measure these metrics, each once; `weights` is a hub id or folder in place of a judge's own.

    Raises InputError for a metric without a judge, `weights` for several judges, and where what a judge needs is not
    installed or cannot be downloaded.
    """
    from cfglab.integrations.judges.clip import ClipScore, PickScore
    from cfglab.integrations.judges.dinov2 import DinoV2
    from cfglab.integrations.judges.image_reward import ImageReward
    from cfglab.integrations.judges.inception import Inception
    from cfglab.pipelines.loading.load import find_device

    makers: tuple[Any, ...] = (ClipScore, PickScore, ImageReward, DinoV2, Inception)
    makes = {metric: maker for maker in makers for metric in maker.metrics}
    for metric in metrics:
        if metric not in makes:
            said = "every run of scenes has it" if metric in METRICS else nearest(metric, makes) or "it is unknown"
            raise InputError(f"metric '{metric}': {said}; score with {', '.join(makes)}.")
    wanted = dict.fromkeys(makes[metric] for metric in metrics)
    if weights is not None and len(wanted) > 1:
        raise InputError(f"--weights {weights}: of one judge, and {len(wanted)} are asked for; score them one by one.")
    return [maker(weights, str(find_device(device))) for maker in wanted]
