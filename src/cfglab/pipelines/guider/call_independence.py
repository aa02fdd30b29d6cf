"""Whether the denoiser calls of a guider's step are independent, so that an unneeded call can be skipped."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch.nn import Module

from cfglab.pipelines.interception.row_mixing import Watched

NETWORKS = ("unet", "transformer", "transformer_2", "controlnet")
"""The components of Modular pipelines that run at every step."""


class CallIndependence:
    """Watches the networks of a run for hooks, processors and caches that keep state between calls.

    Args:
        share_rows: True skips unneeded calls, False makes all calls; None if the networks decide.
    """

    def __init__(self, share_rows: bool | None) -> None:
        self._share_rows = share_rows
        self._watched: list[tuple[str, Watched]] = []
        self._has_warned = False
        self._reason = ""

    def begin(self, pipe: Any, denoisers: Sequence[Module]) -> None:
        """Start to watch the networks of a run.

        Args:
            pipe: The pipeline that calls the guider; None if it is not known.
            denoisers: The networks given to `Guider.bind`; they replace those of the pipeline.
        """
        networks = {name: getattr(pipe, name, None) for name in NETWORKS}
        if denoisers:
            networks = {type(denoiser).__name__: denoiser for denoiser in denoisers}
        self._watched = [(name, Watched(network)) for name, network in networks.items() if isinstance(network, Module)]
        self._reason = "share_rows=False" if self._share_rows is False else ""
        if pipe is None and not denoisers and self._share_rows is None:
            self._reason = "the denoiser, which guider.bind(scheduler, denoiser) was not given,"

    def check(self) -> None:
        """Look at the networks again: hooks and processors may be set during a run."""
        if self._share_rows is None and not self._reason:
            reasons = ((name, watched.reason()) for name, watched in self._watched)
            self._reason = next((f"in {name} {reason}" for name, reason in reasons if reason), "")

    def runs_all_calls(self) -> bool:
        """Whether unneeded calls run too.

        Returns:
            True if the networks may keep state, or with `share_rows=False`. Warns once if they may.
        """
        if self._reason and self._share_rows is None and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"every call of a step is made: {self._reason} may mix or keep rows; pass share_rows=True to "
                "to_guider() if every call stands alone all the same.",
                stacklevel=2,
            )
        return bool(self._reason)
