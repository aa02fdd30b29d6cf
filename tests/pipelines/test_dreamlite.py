"""DreamLite, whose network predicts the right half of the width too, where an image to be edited lies."""

from typing import Any

import torch

from cfglab.pipelines import guide
from tests.pipelines.families import case


def test_what_is_predicted_beside_the_latents_changes_no_norm() -> None:
    made = case("DreamLitePipeline")
    pipe = made.build()

    def louder(_module: Any, _inputs: Any, output: Any) -> Any:
        left, right = output[0].chunk(2, dim=-1)
        return (torch.cat([left, 9 * right], dim=-1),)

    louder.row_independent = True  # type: ignore[attr-defined]
    for guidance in ("5 | prediction_norm(space=x0)", "5 | rescale()"):
        with guide(pipe, guidance):
            plain = made.call(pipe, 5.0, steps=2)
        hook = pipe.unet.register_forward_hook(louder)
        with guide(pipe, guidance):
            assert torch.equal(made.call(pipe, 5.0, steps=2), plain)
        hook.remove()
        with guide(pipe, 5.0):
            assert not torch.allclose(made.call(pipe, 5.0, steps=2), plain)
