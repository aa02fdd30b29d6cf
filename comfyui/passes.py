"""Perturbed passes by ComfyUI's own patching: one more call of the network, with other options or another condition."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import Perturbation, Transform
from cfglab.guidance.methods.second_prompt import SecondPrompt
from cfglab.guidance.perturbations.flipped_values import FlippedValues
from cfglab.guidance.perturbations.joint_attention import Product
from cfglab.guidance.perturbations.normalized_attention import NormalizedAttention
from cfglab.guidance.perturbations.self_attention import BlurredQueries, IdentityAttention
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.skipped_layers import SkippedLayers
from cfglab.guidance.perturbations.sparse_attention import SparseAttention
from cfglab.guidance.perturbations.weak_models import WeakModelPass
from cfglab.hosts import Host

from .layouts import layout_of
from .transformers import PASSES, TransformerPatches, last_of_text

KEY = "cfglab"
"""The name of everything that the pack puts into a MODEL or into the options of a run."""
PASS = "cfglab_pass"
"""The option in which a network of diffusers finds the perturbed pass that it applies itself."""
Block = tuple[str, int]
"""The name and the number of a block, as ComfyUI's patches have it: ("middle", 0), ("double_block", 7)."""
Patch = Callable[..., Any]
OF_UNETS = (
    *(IdentityAttention, BlurredQueries, ShuffledTokens, SparseAttention),
    *(NormalizedAttention, FlippedValues),
)
"""Perturbed passes of UNets."""


def host_of(network: Any, weak: bool) -> Host:
    """What ComfyUI can do for a guidance with this network: the bundled one does all, one in the table much of it.

    Args:
        network: The `diffusion_model` of a MODEL.
        weak: Whether a second MODEL is connected.

    Returns:
        The host.
    """
    if hasattr(network, "applies_passes"):
        return Host("ComfyUI", (object,), None)
    second = ((WeakModelPass,), "is that of a second MODEL; connect it to weak_model")
    layers = OF_UNETS if _is_unet(network) else PASSES if layout_of(network) else (SkippedLayers,)
    return Host("ComfyUI", (*layers, SecondPrompt, *((WeakModelPass,) if weak else ())), None, (second,))


def prompt_key(text: str) -> str:
    """The name of a further prompt among the conditions of a guider."""
    return f"{KEY}: {text}"


ONE_TEXT = (NormalizedAttention, FlippedValues)
"""Passes that read the tokens of a further prompt beside those of the own one, in every attention to the text."""
LIMITS: dict[str, Any] = {
    **dict.fromkeys(("area", "mask", "timestep_start", "timestep_end", "hooks", "control", "gligen", "default")),
    **{"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0},
}
"""What limits or changes a condition in ComfyUI, and the value that does nothing."""


def check_prompts(prompts: dict[str, Any], passes: Iterable[tuple[Transform, Perturbation]]) -> None:
    """Refuse CONDITIONING of which a method would read only a part.

    Args:
        prompts: The CONDITIONING of each further prompt.
        passes: The perturbed passes of the guidances, each with its transform.

    Raises:
        InputError: A CONDITIONING is empty, or holds several conditions or a limited one for a method that reads the
            tokens of one text.
    """
    for text, conditions in prompts.items():
        if not conditions:
            raise InputError(
                f"an empty CONDITIONING for the prompt {text!r}: it has no condition; connect one of CLIP Text Encode."
            )
    for transform, wanted in passes:
        if isinstance(wanted, ONE_TEXT):
            conditions = prompts[wanted.prompt]
            if len(conditions) > 1:
                raise InputError(
                    f"{transform.kind} with {len(conditions)} conditions for the prompt {wanted.prompt!r}: it reads "
                    "the tokens of one text; connect a CONDITIONING that is not combined of several."
                )
            limits = [name for name, off in LIMITS.items() if conditions[0][1].get(name, off) != off]
            if limits:
                raise InputError(
                    f"{transform.kind} with {' and '.join(limits)} in the CONDITIONING of {wanted.prompt!r}: it reads "
                    "the tokens of a text alone, everywhere and in every step of its window; connect it without."
                )


def weak_models_of(guider: Any) -> list[Any]:
    """The second MODEL of a run, in a list; an empty one if none is connected."""
    return list(guider.model_patcher.get_additional_models_with_key(KEY))


def refuse_shared_weights(model: Any, others: Sequence[Any]) -> None:
    """Refuse a second MODEL with the weights of the first one.

    Args:
        model: The MODEL that is guided.
        others: The second MODEL, in a list.

    Raises:
        InputError: ComfyUI holds one set of weights for both, so that both would predict the same.
    """
    if any(other.model is model.model for other in others):
        raise InputError(
            "weak_model is made from the loaded checkpoint of the MODEL itself, whose weights ComfyUI holds once, with "
            "the LoRAs of one of them: autoguidance needs other weights; load another checkpoint, or a copy of the "
            "file under another name."
        )


def run_pass(wanted: Perturbation, cond: Any, guider: Any, args: dict[str, Any]) -> Tensor:
    """The prediction of x0 of one perturbed pass, for all images of the batch.

    Args:
        wanted: The pass.
        cond: The conditions of the rows that it runs again.
        guider: The guider of the run, which holds the further prompts.
        args: The arguments of the hook: input (n, ...), sigma (n,), model, model_options.

    Returns:
        The prediction, (n, ...).

    Raises:
        InputError: The network has no such layer.
    """
    import comfy.samplers

    model, options, text = args["model"], args["model_options"], getattr(wanted, "prompt", None)
    prompt = None if text is None else guider.conds[prompt_key(text)]
    patches: _Patches | TransformerPatches | None = None
    weak = weak_models_of(guider) if isinstance(wanted, WeakModelPass) else []
    if isinstance(wanted, SecondPrompt):
        cond = prompt
    elif weak:
        model, options = weak[0].model, weak[0].model_options
    elif hasattr(model.diffusion_model, "applies_passes"):
        context = None if prompt is None else prompt[0]["model_conds"]["c_crossattn"].cond
        options = {**options, "transformer_options": {**options["transformer_options"], PASS: (wanted, context)}}
    else:
        patches = _patches_of(model.diffusion_model, options)
    if not isinstance(wanted, SecondPrompt):  # a cache by conditions must not take this pass for the prediction itself
        cond = [{**part, "uuid": (part.get("uuid"), type(wanted))} for part in cond]
    try:
        if patches is not None:
            patches.set(wanted, prompt)
            options = patches.options
        (prediction,) = comfy.samplers.calc_cond_batch(model, [cond], args["input"], args["sigma"], options)
    finally:
        for handle in () if patches is None else patches.handles:
            handle.remove()
    if patches is not None and not patches.called:
        raise InputError(
            f"{type(wanted).__name__}: the network {type(model.diffusion_model).__name__} ran without the layers "
            f"{', '.join(getattr(wanted, 'layers', ('with the text',)))}; name layers that it has, use a newer "
            "ComfyUI, or leave the method out."
        )
    return prediction


def check_pass(wanted: Perturbation, network: Any) -> None:
    """Refuse a pass that the network cannot make, before a step needs it.

    Args:
        wanted: A pass without a prompt of its own.
        network: The `diffusion_model` of a MODEL.

    Raises:
        InputError: The network has no such layer.
    """
    if hasattr(network, "applies_passes"):
        with wanted.applied(network.unet):
            return
    if isinstance(wanted, WeakModelPass):
        return
    patches = _patches_of(network, {"transformer_options": {}})
    try:
        patches.set(wanted, None)
    finally:
        for handle in patches.handles:
            handle.remove()


def _patches_of(network: Any, options: dict[str, Any]) -> "_Patches | TransformerPatches":
    return (TransformerPatches if layout_of(network) else _Patches)(options.copy(), network)


class _Patches:
    """Options of a run with the patches of one pass, and whether the network called them."""

    def __init__(self, options: dict[str, Any], network: Any) -> None:
        self.options, self.network, self.called = options, network, False
        self.handles: list[Any] = []
        self.earlier: dict[str, dict[Any, Patch]] = options["transformer_options"].get("patches_replace", {})
        """What other nodes have put in the place of an attention, by its kind and block."""

    def set(self, wanted: Perturbation, prompt: Any) -> None:
        match wanted:
            case IdentityAttention():
                self._replace("attn1", wanted.layers, lambda _attention, _q, _k, v, _extra: v)
            case BlurredQueries():
                self._replace("attn1", wanted.layers, partial(_blurred, wanted))
            case ShuffledTokens():
                self._shuffle(wanted)
            case SparseAttention():
                self._refuse_earlier("pladis")
                self._replace("attn2", wanted.layers, partial(_sparse, wanted))
            case SkippedLayers():
                for layer in wanted.layers:
                    self._add("dit", _transformer_block(layer), lambda _, args, __: args)
            case NormalizedAttention() | FlippedValues():
                self._read_both_texts(wanted, prompt[0]["model_conds"]["c_crossattn"].cond)

    def _replace(self, kind: str, layers: tuple[str, ...], patch: Patch) -> None:
        names = _attention_blocks(self.network)
        for layer in layers:
            inside = [block for name, block in names.items() if f".{layer}." in f".{name}."]
            if not inside:
                raise InputError(f"no attention in layer {layer!r}; there are {', '.join(names)}: name one of them.")
            for block in inside:
                self._add(kind, block, patch)

    def _shuffle(self, wanted: ShuffledTokens) -> None:
        """Hooks on the transformer blocks: no patch of ComfyUI sees the input of a whole block."""
        names, blocks = _transformer_blocks(self.network), list[Any]()
        for layer in wanted.layers:
            inside = [block for name, block in names.items() if f".{layer}." in f".{name}."]
            if not inside:
                raise InputError(
                    f"no transformer block in layer {layer!r}; there are {', '.join(names)}: name one of them."
                )
            blocks += [block for block in inside if block not in blocks]
        self.called = True
        for number, block in enumerate(blocks):
            self.handles.append(block.register_forward_pre_hook(wanted.shuffler(number), with_kwargs=True))

    def _add(self, kind: str, block: Block, patch: Patch) -> None:
        """Put `patch` in the place of a block's attentions, also of those that another node has replaced.

        `patch` is called with the attention that would run without it, and with the arguments of that.
        """
        from comfy.model_patcher import set_model_options_patch_replace

        def noted(attention: Patch, *args: Any, mask: Any = None) -> Any:  # noqa: ARG001
            self.called = True
            return patch(attention, *args)

        earlier = self.earlier.get(kind, {})
        for key in {block, *(key for key in earlier if key[:2] == block)}:
            attention = earlier.get(key, earlier.get(block, _attention))
            self.options = set_model_options_patch_replace(self.options, partial(noted, attention), kind, *key)

    def _refuse_earlier(self, method: str) -> None:
        if self.earlier.get("attn2"):
            raise InputError(
                f"{method} beside a node that replaces the attention to the text, such as IPAdapter: it changes the "
                "weights of that attention, which the node computes itself; leave one of them out."
            )

    def _read_both_texts(self, wanted: NormalizedAttention | FlippedValues, negative: Tensor) -> None:
        """The tokens of the negative prompt go behind those of the prompt, and every attention splits them again."""
        tokens = negative.shape[1]
        if isinstance(wanted, FlippedValues):
            self._refuse_earlier("vsf")

        def append(n: Tensor, context: Tensor, value: Tensor, extra: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
            behind = negative.to(context).expand(len(context), -1, -1)
            return n, torch.cat([context, behind], 1), torch.cat([value, behind], 1)

        def split(attention: Patch, q: Tensor, k: Tensor, v: Tensor, extra: Any) -> Tensor:
            if isinstance(wanted, FlippedValues):
                product = _product(q, k, v, extra)
                return wanted.of_product(product, last_of_text(product, tokens)).transpose(1, 2).flatten(2)
            own, other = (
                attention(q, k[:, part], v[:, part], extra) for part in (slice(-tokens), slice(-tokens, None))
            )
            return wanted.guided(own, other)

        transformer = dict(self.options["transformer_options"])
        patches = transformer.get("patches", {})
        transformer["patches"] = {**patches, "attn2_patch": [*patches.get("attn2_patch", []), append]}
        self.options["transformer_options"] = transformer
        for block in set(_attention_blocks(self.network).values()):
            self._add("attn2", block, split)


def _blurred(
    wanted: BlurredQueries, attention: Patch, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]
) -> Tensor:
    return attention(wanted.blurred(q, *extra["original_shape"][-2:]), k, v, extra)


def _sparse(wanted: SparseAttention, _: Patch, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    return wanted.of_product(_product(q, k, v, extra)).transpose(1, 2).flatten(2)


def _product(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Product:
    """The product of a UNet's attention to the text, whose tensors are (n, tokens, channels of all heads)."""
    query, key, value = (tensor.unflatten(2, (extra["n_heads"], -1)).transpose(1, 2) for tensor in (q, k, v))
    return Product(query, key, value, None, {}, slice(0, q.shape[1]), slice(0, k.shape[1]), lambda _: None, None)


def _attention(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, heads=extra["n_heads"], attn_precision=extra["attn_precision"])


def _is_unet(network: Any) -> bool:
    return hasattr(network, "input_blocks") and hasattr(network, "output_blocks")


def _attention_blocks(network: Any) -> dict[str, Block]:
    """The blocks of a UNet with attention, by the names that diffusers gives them."""
    names: dict[str, Block] = {}
    for side, kind, blocks, end in (
        ("down_blocks", "input", network.input_blocks, "Downsample"),
        ("up_blocks", "output", network.output_blocks, "Upsample"),
    ):
        level = position = 0
        for number, block in enumerate(blocks):
            if any(hasattr(part, "transformer_blocks") for part in block):
                names[f"{side}.{level}.attentions.{position}"] = (kind, number)
                position += 1
            if any(type(part).__name__ == end for part in block):
                level, position = level + 1, 0
    if any(hasattr(part, "transformer_blocks") for part in network.middle_block):
        names["mid"] = ("middle", 0)
    return names


def _transformer_blocks(network: Any) -> dict[str, Any]:
    """The transformer blocks of a UNet, by the names that diffusers gives them."""
    names: dict[str, Any] = {}
    for name, (side, number) in _attention_blocks(network).items():
        block = network.middle_block if side == "middle" else getattr(network, f"{side}_blocks")[number]
        for path, module in block.named_modules():
            *_, parent, index = f"..{path}".rsplit(".", 2)
            if parent.removeprefix(".") == "transformer_blocks" and index.isdigit():
                names[f"{name}.transformer_blocks.{index}"] = module
    return names


def _transformer_block(layer: str) -> Block:
    """`7`, `transformer_blocks.7` or `single_transformer_blocks.7` as ComfyUI names it."""
    stack, _, number = layer.rpartition(".")
    if not number.isdigit():
        raise InputError(f"layer {layer!r} of a transformer: it is the number of a block; write layers=(7, 8, 9).")
    return ("single_block" if stack.startswith("single") else "double_block", int(number))
