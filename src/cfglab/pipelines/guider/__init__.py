"""Guidance as a guider of Modular Diffusers.

Saved pipelines name `cfglab.pipelines.guider:Guider`, and diffusers looks for `BaseGuidance` beside it.
"""

from cfglab.pipelines.guider.guider import BaseGuidance as BaseGuidance
from cfglab.pipelines.guider.guider import Guider as Guider
from cfglab.pipelines.guider.guider import to_guider as to_guider
