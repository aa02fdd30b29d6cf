"""KSampler with the node against without, on a network of 50 ms a call: COMFYUI=… python -m comfyui.tests.overhead."""

import time
from typing import Any

from .conftest import load_pack, start_comfyui
from .stubs import COMFYUI

MILLISECONDS = 50
STEPS, ROUNDS = 20, 7


def main() -> None:
    assert COMFYUI, "name a checkout: COMFYUI=/path"
    import torch
    from comfy.model_base import ModelType

    from cfglab import Guidance

    from .models import patcher, sample

    class Slow(torch.nn.Module):
        """A network that takes its time for every row of a pair."""

        dtype = torch.float32

        def forward(self, x: Any, *_: Any, **__: Any) -> Any:
            time.sleep(MILLISECONDS / 1000 * len(x) / 2)
            return torch.sin(x)

    from cfglab_pack.guided_model import GuidedModel

    untouched = patcher(ModelType.EPS, Slow())

    def seconds(model: Any, cfg: float) -> tuple[float, float]:
        """The time of a run, and the time that this process computed: a busy machine lengthens only the first."""
        begin, computed = time.perf_counter(), time.process_time()
        sample(model, cfg, steps=STEPS, shape=(4, 64, 64))
        return time.perf_counter() - begin, time.process_time() - computed

    texts = ["7.5", "7.5 | apg()", "constant(7.5).inside(progress=(0.25, 0.75))"]
    models = {text: GuidedModel([Guidance(text)]).attach(untouched) for text in texts}
    seconds(untouched, 7.5)
    rounds = [(seconds(untouched, 7.5), *(seconds(model, 1.0) for model in models.values())) for _ in range(ROUNDS)]
    walls, computed = ([min(each[part] for each in column) for column in zip(*rounds, strict=True)] for part in (0, 1))
    for text, wall, own in zip(texts, walls[1:], computed[1:], strict=True):
        more = 1000 * (own - computed[0]) / STEPS
        print(f"{text}: {wall / walls[0]:.3f} of the untouched sampler; {more:.2f} ms of computing more a call")


if __name__ == "__main__":
    start_comfyui()
    load_pack()
    main()
