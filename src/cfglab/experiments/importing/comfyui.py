"""The API prompt of a ComfyUI image, a graph of nodes: the sampler that made the image, and what leads into it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cfglab.experiments.importing.generation import Generation, Unusable, generation, label

Node = Mapping[str, Any]
_SAMPLED = ("latent_image", "latent", "samples")
_CONDITIONS = ("conditioning", "conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from")
_TEXTS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "value")
_MODEL_FILES = ("ckpt_name", "unet_name", "model_name", "model_path")
_VALUES = (
    "value",
    "seed",
    "noise_seed",
    "int",
    "float",
    "number",
    "text",
    "string",
    "Number",
    "Value",
    "String",
    "Text",
)
_SEEDS = ("seed", "noise_seed", "control_after_generate")
_OWN = (*_SEEDS, "steps", "cfg", "sampler_name")
_TEXT_PARTS = 16
_GUIDANCE_NODE, _GUIDANCE_LIST_NODE = "CfglabGuidance", "CfglabGuidanceList"
"""Nodes of cfglab's own pack."""


def read_prompt(prompt: object) -> Generation:
    """The generation that an API prompt describes.

    The sampler is the one nearest to the saved image; samplers before it (the first pass of a two-pass workflow) give
    prompt, seed and scale, and the later passes are settings. So are the values of every other node that leads into the
    image (LoRA, clip, VAE, latent, loaded image, ControlNet, upscaler), as `LoraLoader strength_model`; where several
    nodes are of one class, they are numbered from the image on.

    Args:
        prompt: the JSON value of the PNG text `prompt`: node id -> class_type and inputs.

    Raises:
        Unusable: there is no sampler, more than one image is saved from different samplers, or a value is missing.
    """
    if not isinstance(prompt, dict):
        raise Unusable("has a ComfyUI prompt that is no graph of nodes")
    graph = _Graph({str(key): node for key, node in prompt.items() if _is_node(node)})
    ends, passes = graph.passes()
    recorder = _Recorder(graph)
    first, later = graph.sampling(passes[0], recorder), [graph.sampling(node, recorder) for node in passes[1:]]
    settings: dict[str, object] = first.pop("settings")
    for number, values in enumerate(later, start=2):
        more = {**values.pop("settings"), **values}
        for name in ("prompt", "negative", "seed", "steps", "scale", "sampler", "model"):
            if more.get(name) == first.get(name):
                more.pop(name, None)
        more.pop("seed", None)  # a later pass is seeded from the same widget or at random: it is no configuration
        settings |= {f"pass {number} {name}": value for name, value in more.items() if settings.get(name) != value}
    settings |= recorder.values([end["inputs"]["images"] for end in ends])
    return generation("ComfyUI", settings=settings, **first)


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("inputs"), dict) and isinstance(node.get("class_type"), str)


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int)


def _is_sampler(node: Node) -> bool:
    names = node["inputs"].keys()
    return {"sampler_name", "steps", "cfg"} <= names or {"sampler", "sigmas"} <= names


class _Graph:
    """The nodes by id. A link is `[id, output]`; every walk visits a node once, so a ring ends it."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes

    def linked(self, value: Any) -> Node | None:
        """The node that an input is linked to."""
        return self.nodes.get(str(value[0])) if _is_link(value) else None

    def upstream(self, start: Node, inputs: tuple[str, ...] | None = None) -> Iterator[Node]:
        """`start` and the nodes before it, nearest first, through all inputs or the named ones."""
        queue, visited = [start], {id(start)}
        for node in queue:
            yield node
            names = node["inputs"] if inputs is None else inputs
            for name in names:
                before = self.linked(node["inputs"].get(name))
                if before is not None and id(before) not in visited:
                    visited.add(id(before))
                    queue.append(before)

    def passes(self) -> tuple[list[Node], list[Node]]:
        """The nodes that save or show images, and the samplers in their order, the last one nearest to the image."""
        ends = [node for node in self.nodes.values() if _saves(node)]
        nearest = [sampler for end in ends if (sampler := self._nearest_sampler(end)) is not None]
        nearest = nearest or [node for node in self.nodes.values() if _is_sampler(node)]
        last = list({id(node): node for node in nearest}.values())
        if not last:
            raise Unusable("has a ComfyUI prompt without a sampler node that is known here")
        if len(last) > 1:
            raise Unusable(f"has a ComfyUI prompt with {len(last)} samplers, and which one made it is not recorded")
        inputs = (*_SAMPLED, "pixels", "image", "images")
        chain = [node for node in self.upstream(last[0], inputs) if _is_sampler(node)]
        return [end for end in ends if self._nearest_sampler(end) is last[0]], chain[::-1]

    def _nearest_sampler(self, end: Node) -> Node | None:
        return next((node for node in self.upstream(end) if _is_sampler(node)), None)

    def value(self, node: Node, *names: str) -> Any:
        """The first of these inputs that is there: its own value, or that of a node of one value linked to it."""
        for name in names:
            if name in node["inputs"]:
                return self._resolved(node["inputs"][name])
        return None

    def _resolved(self, value: object) -> Any:
        for _ in range(len(self.nodes)):
            node = self.linked(value)
            if node is None:
                break
            value = next((node["inputs"][name] for name in _VALUES if name in node["inputs"]), None)
        return value if isinstance(value, str | int | float) else None

    def constant(self, value: object) -> object:
        """An input's own value, or that of a node that only holds a value; None for what another node computes."""
        for _ in range(len(self.nodes)):
            if not isinstance(value, list):
                return value
            node = self.linked(value)
            names = [] if node is None else [name for name in node["inputs"] if name not in _SEEDS]
            if node is None or len(names) != 1 or names[0] not in _VALUES:
                return None
            value = node["inputs"][names[0]]
        return None

    def sampling(self, sampler: Node, recorder: "_Recorder") -> dict[str, Any]:
        """Prompt, seed, steps, scale, sampler, model and settings of one sampler node."""
        guider = self.linked(sampler["inputs"].get("guider")) or sampler
        noise = self.linked(sampler["inputs"].get("noise")) or sampler
        chosen = self.linked(sampler["inputs"].get("sampler")) or sampler
        sigmas = self.linked(sampler["inputs"].get("sigmas"))
        counts = [] if sigmas is None else [node for node in self.upstream(sigmas) if "steps" in node["inputs"]]
        counting = counts[0] if counts else sampler
        positive = next(
            (guider["inputs"][name] for name in ("positive", "conditioning", "cond1") if name in guider["inputs"]), None
        )
        prompt = self._text(self.linked(positive), ("positive", *_CONDITIONS), recorder)
        negative = self._text(self.linked(guider["inputs"].get("negative")), ("negative", *_CONDITIONS), recorder)
        model, guidance = self._model(self.linked(guider["inputs"].get("model")), recorder)
        settings = recorder.values_of_sampler([sampler, guider, chosen, counting])
        return {
            "prompt": prompt,
            "negative": negative or "",
            "seed": self.value(noise, "noise_seed", "seed"),
            "steps": self.value(counting, "steps"),
            "scale": guidance or self._scale(guider),
            "sampler": self.value(chosen, "sampler_name") or label(chosen["class_type"]),
            "model": model,
            "settings": settings,
        }

    def _scale(self, guider: Node) -> object:
        """The scale of a guider; a BasicGuider runs the conditional prediction alone, which is w = 1."""
        if guider["class_type"] == "BasicGuider":
            return 1.0
        return self.value(guider, "cfg")

    def _model(self, node: Node | None, recorder: "_Recorder") -> tuple[object, str | None]:
        """The model's file and the guidance text of a cfglab node."""
        guidance = None
        for step in () if node is None else self.upstream(node, ("model", "model1", "unet")):
            file = next((name for name in _MODEL_FILES if name in step["inputs"]), None)
            if file is not None:
                recorder.skip(step, file)
                return self._resolved(step["inputs"][file]), guidance
            if step["class_type"] in (_GUIDANCE_NODE, _GUIDANCE_LIST_NODE):
                guidance = guidance or self._guidance_text(step)
                recorder.skip(step, "guidance")
            elif not any(self.linked(value) for value in step["inputs"].values()):
                return step["class_type"], guidance  # a loader that names no file
        return None, guidance

    def _guidance_text(self, node: Node) -> str:
        """The text of a cfglab node; of a linked one only where the link leads to a text."""
        if node["class_type"] == _GUIDANCE_LIST_NODE:
            raise Unusable("is of a batch in which each image has its own guidance, and does not record which one")
        text = self._resolved(node["inputs"].get("guidance"))
        if not isinstance(text, str):
            raise Unusable("takes its guidance from another node, whose text is not recorded")
        return text

    def _text(self, node: Node | None, inputs: tuple[str, ...], recorder: "_Recorder") -> str | None:
        """The text behind a conditioning: all parts of one that is combined; "" for one that is zeroed out."""
        parts: list[str] = []
        zeroed = False
        for step in () if node is None else self.upstream(node, inputs):
            zeroed = zeroed or step["class_type"] == "ConditioningZeroOut"
            recorder.skip(step, *_TEXTS)
            texts = [self._resolved(step["inputs"][name]) for name in _TEXTS if name in step["inputs"]]
            parts += [text for text in dict.fromkeys(texts) if isinstance(text, str)]
        if zeroed:
            return ""
        return " AND ".join(list(dict.fromkeys(parts))[:_TEXT_PARTS]) if parts else None


class _Recorder:
    """The values of all nodes that lead into an image, each node once.

    Left out are seeds, and inputs that are read on their own (`skip`). An input that is linked to a node of one value
    has that value; other links are followed.
    """

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._skipped: set[tuple[int, str]] = set()
        self._visited: set[int] = set()
        self._classes: Counter[str] = Counter()

    def skip(self, node: Node, *names: str) -> None:
        """Record these inputs of a node nowhere, nor what they are linked to."""
        self._skipped |= {(id(node), name) for name in names}

    def values_of_sampler(self, nodes: Iterable[Node]) -> dict[str, object]:
        """The values of a sampler's own nodes under the names of their inputs, then those of the nodes before them."""
        settings: dict[str, object] = {}
        links: list[object] = []
        for node in {id(node): node for node in nodes if id(node) not in self._visited}.values():
            self._visited.add(id(node))
            settings |= self._read(node, _OWN, links)
        return settings | self.values(links)

    def values(self, links: list[object]) -> dict[str, object]:
        """The values of the nodes behind these links, nearest first, as `class_type input`."""
        settings: dict[str, object] = {}
        queue = list(links)
        for link in queue:
            node = self._graph.linked(link)
            if node is None or id(node) in self._visited:
                continue
            self._visited.add(id(node))
            values = self._read(node, _SEEDS, queue)
            if values:
                kind = node["class_type"]
                self._classes[kind] += 1
                kind += f" {self._classes[kind]}" if self._classes[kind] > 1 else ""
                settings |= {f"{kind} {name}": value for name, value in values.items()}
        return settings

    def _read(self, node: Node, own: tuple[str, ...], links: list[object]) -> dict[str, object]:
        """The values of one node; its links are added to `links`."""
        values = {}
        for name, value in sorted(node["inputs"].items()):
            if name in own or (id(node), name) in self._skipped:
                continue
            constant = self._graph.constant(value)
            if constant is not None:
                values[name] = constant
            elif self._graph.linked(value) is not None:
                links.append(value)
            elif isinstance(value, list) and not _is_link(value):
                values[name] = value
        return values


def _saves(node: Node) -> bool:
    return "images" in node["inputs"] and ("filename_prefix" in node["inputs"] or "Preview" in node["class_type"])
