"""The API prompt of a ComfyUI image, a graph of nodes: the sampler that made the image, and what leads into it."""

from collections.abc import Iterator, Mapping
from typing import Any

from cfglab.experiments.importing.generation import Generation, Unusable, generation, label

Node = Mapping[str, Any]
_SAMPLED = ("latent_image", "latent", "samples")
_CONDITIONS = ("positive", "conditioning", "conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from")
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
_OWN = ("seed", "noise_seed", "steps", "cfg", "sampler_name", "control_after_generate")
_TEXT_PARTS = 16


def read_prompt(prompt: object) -> Generation:
    """The generation that an API prompt describes.

    The sampler is the one nearest to the saved image; samplers before it (the first pass of a two-pass workflow) give
    prompt, seed and scale, and the later passes are settings.

    Args:
        prompt: the JSON value of the PNG text `prompt`: node id -> class_type and inputs.

    Raises:
        Unusable: there is no sampler, more than one image is saved from different samplers, or a value is missing.
    """
    if not isinstance(prompt, dict):
        raise Unusable("has a ComfyUI prompt that is no graph of nodes")
    graph = _Graph({str(key): node for key, node in prompt.items() if _is_node(node)})
    passes = graph.passes()
    first, later = graph.sampling(passes[0]), [graph.sampling(node) for node in passes[1:]]
    settings: dict[str, object] = first.pop("settings")
    for number, values in enumerate(later, start=2):
        more = {**values.pop("settings"), **values}
        for name in ("prompt", "negative", "seed", "steps", "scale", "sampler", "model"):
            if more.get(name) == first.get(name):
                more.pop(name, None)
        more.pop("seed", None)  # a later pass is seeded from the same widget or at random: it is no configuration
        settings |= {f"pass {number} {name}": value for name, value in more.items() if settings.get(name) != value}
    return generation("ComfyUI", settings=settings, **first)


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("inputs"), dict) and isinstance(node.get("class_type"), str)


def _is_sampler(node: Node) -> bool:
    names = node["inputs"].keys()
    return {"sampler_name", "steps", "cfg"} <= names or {"sampler", "sigmas"} <= names


class _Graph:
    """The nodes by id. A link is `[id, output]`; every walk visits a node once, so a ring ends it."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes

    def linked(self, value: object) -> Node | None:
        """The node that an input is linked to."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            return self.nodes.get(str(value[0]))
        return None

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

    def passes(self) -> list[Node]:
        """The samplers in the order in which they run, the last one nearest to the saved image."""
        ends = [node for node in self.nodes.values() if _saves(node)]
        nearest = [sampler for end in ends if (sampler := self._nearest_sampler(end)) is not None]
        nearest = nearest or [node for node in self.nodes.values() if _is_sampler(node)]
        last = list({id(node): node for node in nearest}.values())
        if not last:
            raise Unusable("has a ComfyUI prompt without a sampler node that is known here")
        if len(last) > 1:
            raise Unusable(f"has a ComfyUI prompt with {len(last)} samplers, and which one made it is not recorded")
        chain = [node for node in self.upstream(last[0], (*_SAMPLED, "pixels", "image", "images")) if _is_sampler(node)]
        return chain[::-1]

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

    def sampling(self, sampler: Node) -> dict[str, Any]:
        """Prompt, seed, steps, scale, sampler, model and settings of one sampler node."""
        guider = self.linked(sampler["inputs"].get("guider")) or sampler
        noise = self.linked(sampler["inputs"].get("noise")) or sampler
        chosen = self.linked(sampler["inputs"].get("sampler")) or sampler
        sigmas = self.linked(sampler["inputs"].get("sigmas"))
        counts = [] if sigmas is None else [node for node in self.upstream(sigmas) if "steps" in node["inputs"]]
        counting = counts[0] if counts else sampler
        settings: dict[str, object] = {}
        for node in {id(node): node for node in (sampler, guider, chosen, counting)}.values():
            settings |= {
                name: self._resolved(value)
                for name, value in node["inputs"].items()
                if name not in _OWN and (self.linked(value) is None or name in ("scheduler", "denoise"))
            }
        model, guidance = self._model(self.linked(guider["inputs"].get("model")), settings)
        positive = next(
            (guider["inputs"][name] for name in ("positive", "conditioning", "cond1") if name in guider["inputs"]), None
        )
        return {
            "prompt": self._text(self.linked(positive), settings),
            "negative": self._text(self.linked(guider["inputs"].get("negative")), None) or "",
            "seed": self.value(noise, "noise_seed", "seed"),
            "steps": self.value(counting, "steps"),
            "scale": guidance or self._scale(guider),
            "sampler": self.value(chosen, "sampler_name") or label(chosen["class_type"]),
            "model": model,
            "settings": {name: value for name, value in settings.items() if value is not None},
        }

    def _scale(self, guider: Node) -> object:
        """The scale of a guider; a BasicGuider runs the conditional prediction alone, which is w = 1."""
        if guider["class_type"] == "BasicGuider":
            return 1.0
        return self.value(guider, "cfg")

    def _model(self, node: Node | None, settings: dict[str, object]) -> tuple[object, str | None]:
        """The model's file and the guidance text of a cfglab node; patches on the way to it become settings."""
        guidance = None
        for step in () if node is None else self.upstream(node, ("model", "model1", "unet")):
            inputs = step["inputs"]
            file = self.value(step, *_MODEL_FILES)
            if file is not None:
                return file, guidance
            text = inputs.get("guidance")
            if guidance is None and isinstance(text, str) and "cfglab" in step["class_type"].lower():
                guidance = text
                continue
            for name, value in inputs.items():
                if self.linked(value) is None:
                    settings[f"{step['class_type']} {name}"] = value
        return None, guidance

    def _text(self, node: Node | None, settings: dict[str, object] | None) -> str | None:
        """The text behind a conditioning: all parts of one that is combined; "" for one that is zeroed out."""
        parts: list[str] = []
        for step in () if node is None else self.upstream(node, _CONDITIONS):
            if step["class_type"] == "ConditioningZeroOut":
                return ""
            texts = [self._resolved(step["inputs"][name]) for name in _TEXTS if name in step["inputs"]]
            parts += [text for text in dict.fromkeys(texts) if isinstance(text, str)]
            if settings is not None and not texts:
                for name, value in step["inputs"].items():
                    if self.linked(value) is None:
                        settings[f"{step['class_type']} {name}"] = value
        return " AND ".join(list(dict.fromkeys(parts))[:_TEXT_PARTS]) if parts else None


def _saves(node: Node) -> bool:
    return "images" in node["inputs"] and ("filename_prefix" in node["inputs"] or "Preview" in node["class_type"])
