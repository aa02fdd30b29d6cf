"""Random scenes with their captions: what the models learn from. Held-out compositions never appear."""

import numpy as np

from cfglab.scenes.renderer import render
from cfglab.scenes.vocabulary import BACKGROUNDS, PREFIXES, RELATIONS, Scene, caption, triples

STYLES = ("mdjrny-v4 style", "style", "an emoji style", "high quality,", "sticker:")


class SceneSource:
    """An endless, seeded stream of scenes; one in five shows a single object."""

    def __init__(self, seed: int, held_out: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.singles = triples((None,))
        pairs = {relation: triples((relation,)) for relation in RELATIONS}
        self.pairs = {name: [s for s in scenes if s.held_out == held_out] for name, scenes in pairs.items()}
        self.share_single = 0.0 if held_out else 0.2

    def scene(self) -> Scene:
        rng = self.rng
        if rng.random() < self.share_single:
            scene = self.singles[rng.integers(len(self.singles))]
        else:
            chosen = self.pairs[RELATIONS[rng.integers(len(RELATIONS))]]
            scene = chosen[rng.integers(len(chosen))]
        background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
        return scene.model_copy(update={"background": background})

    def picture(self, scene: Scene) -> np.ndarray:
        return render(scene, self.rng)

    def caption(self, scene: Scene) -> str:
        """A caption whose prefix and background are sometimes left out, sometimes after a style word."""
        rng = self.rng
        if rng.random() < 0.3:
            scene = scene.model_copy(update={"background": None})
        prefix = PREFIXES[rng.integers(len(PREFIXES))] if rng.random() < 0.7 else ""
        if rng.random() < 0.1:
            prefix = f"{STYLES[rng.integers(len(STYLES))]} {prefix}".strip()
        return caption(scene, prefix)

    def pictures(self, count: int) -> np.ndarray:
        """uint8 `(count, 64, 64, 3)`."""
        return np.stack([self.picture(self.scene()) for _ in range(count)])
