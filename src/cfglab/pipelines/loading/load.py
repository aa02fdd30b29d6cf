"""A StableDiffusionPipeline from a name, quietly, with every fault as one line."""

import inspect
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import load_file

from cfglab.errors import InputError, MachineError, is_memory_error
from cfglab.pipelines.loading.compiled_blocks import compile_in_blocks
from cfglab.pipelines.loading.configuration import pipeline_class, read_parts
from cfglab.pipelines.loading.model_folder import locate, network_parts, weights_count
from cfglab.pipelines.loading.quiet import DiffusionPipeline, quiet
from cfglab.pipelines.loading.samplers import OWN, make_sampler
from cfglab.pipelines.loading.text_to_image import STABLE_DIFFUSION
from cfglab.schedules.fields import nearest

_LEFT_OUT = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
}
"""Parts that are not loaded, where a class has them: what checks images, and what reads images as prompts."""
_PART_CLASSES = (
    diffusers.ModelMixin,
    diffusers.SchedulerMixin,
    transformers.PreTrainedModel,
    transformers.PreTrainedTokenizerBase,
    transformers.ProcessorMixin,
    transformers.ImageProcessingMixin,
    transformers.FeatureExtractionMixin,
)
_WEIGHTS_FILE = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>[a-z0-9_]+))?(?:-\d+-of-\d+)?\.safetensors")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(
    name: str | Path = "scenes",
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "float32",
    sampler: str | None = None,
    compiled: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    allow_download: bool = True,
) -> DiffusionPipeline:
    """Load a text-to-image pipeline, ready to call. The safety checker of Stable Diffusion 1.x is never loaded.

    The classes are those of `cfglab.pipelines.loading.text_to_image.SIDE`: Stable Diffusion 1.x, SDXL, Stable
    Diffusion 3, Flux and others.

    Args:
        name: "scenes", "scenes-flow", the path of a model folder, or a hub id. A hub id is consent to download the
            model.
        device: a torch device, or "auto": CUDA if present, else Apple's GPU, else the CPU.
        dtype: "float32", "float16" or "bfloat16", or torch's dtype of this name.
        sampler: one of SAMPLERS; None or "own" keeps the sampler of the model.
        compiled: run the denoiser through torch.compile in blocks of a fixed size: slower to start, faster afterwards.
        revision: the revision of the hub model.
        allow_pickle: accept pickled weights; they are then read with weights-only loading.
        allow_download: False for a name that was read from a file: a hub model is then taken from the cache only.

    Returns:
        The pipeline on the device.

    Raises:
        InputError: if an argument or the model folder is not valid.
        DownloadNeeded: if `allow_download` is False and the model is not in the cache.
        MachineError: if the machine fails, for example if the model does not fit into memory.

    Examples:
        pipe = cfglab.load("scenes", device="cpu")
        image = pipe("a red apple").images[0]
    """
    dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise InputError(f"no dtype {dtype!r}: there are {', '.join(DTYPES)};{nearest(dtype, DTYPES) or ' name one.'}")
    target = find_device(device)
    folder = locate(name, revision, allow_pickle, allow_download)
    with quiet():
        pipe = _read_pipeline(folder, DTYPES[dtype], allow_pickle)
        if sampler not in (None, OWN):
            pipe.scheduler = _sampler(folder, str(sampler), pipe.scheduler.config)
    if compiled and not hasattr(pipe, "unet"):
        raise InputError(f"compile: the transformer of a {type(pipe).__name__} is run as it is; leave it out.")
    if compiled:
        compile_in_blocks(pipe.unet)
    try:
        return pipe.to(target)
    except Exception as error:
        if not isinstance(error, RuntimeError) and not is_memory_error(error):
            raise
        raise MachineError(f"{folder} does not fit on {target}: {_first_line(error)}; try device='cpu'.") from error


def _sampler(folder: Path, name: str, config: Any) -> Any:
    try:
        return make_sampler(name, config)
    except InputError:
        raise
    except Exception as error:  # whatever a scheduler makes of a configuration
        if is_memory_error(error):
            raise _memory_error(folder) from error
        raise InputError(
            f"{folder / 'scheduler'}: sampler {name!r} cannot be made from its configuration: {_first_line(error)}; "
            "name another, or copy the model's folder again."
        ) from error


def find_device(name: str) -> torch.device:
    """The torch device with a name.

    Args:
        name: A torch device, or "auto": CUDA if present, else Apple's GPU, else the CPU.

    Returns:
        The device.

    Raises:
        InputError: The name is not a device, or this machine does not have it.

    Examples:
        >>> find_device("cpu")
        device(type='cpu')
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in has.items() if available))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"no device {name!r}: there are auto, cpu, cuda, cuda:1 and mps; name one.") from None
    if not has.get(device.type, True) or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device {name!r}: this machine has none; use auto or cpu.")
    return device


def check_prompt(pipe: Any, prompt: str, role: str = "prompt") -> None:
    """Check that the text encoder reads the whole prompt.

    Args:
        pipe: the pipeline whose tokenizer is used.
        prompt: the prompt.
        what: the name of the prompt in the error message.

    Raises:
        InputError: if the prompt has more tokens than the text encoder reads; the message gives the lost words.
    """
    limit = int(pipe.tokenizer.model_max_length)
    with quiet():
        tokens = pipe.tokenizer(prompt, truncation=False)["input_ids"]
    if len(tokens) > limit:
        lost = pipe.tokenizer.decode(tokens[limit - 1 : -1], clean_up_tokenization_spaces=False).strip()
        excerpt = prompt if len(prompt) <= 60 else f"{prompt[:60]}…"
        raise InputError(
            f"{role} {excerpt!r} has {len(tokens) - 2} tokens: the text encoder reads {limit - 2}, so {lost[:60]!r} "
            "would be lost; shorten it."
        )


def _read_pipeline(folder: Path, dtype: torch.dtype, allow_pickle: bool) -> DiffusionPipeline:
    options = {"torch_dtype": dtype, "local_files_only": True}
    kind, classes = pipeline_class(folder), read_parts(folder)
    pipeline = getattr(diffusers, kind)
    accepted = inspect.signature(pipeline.__init__).parameters
    absent = {name: value for name, value in _LEFT_OUT.items() if name in accepted}
    try:
        for part, (library, name) in classes.items():
            _check_class(folder, part, library, name)
        networks = {part: _part(folder / part, *classes[part], options, allow_pickle) for part in network_parts(folder)}
        return pipeline.from_pretrained(folder, **networks, **absent, local_files_only=True)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes of diffusers and transformers
        if is_memory_error(error):
            raise _memory_error(folder) from error
        name = "Stable Diffusion pipeline" if kind == STABLE_DIFFUSION else kind
        raise InputError(
            f"{folder} cannot be read as a {name}: {_first_line(error)}; copy or download it again."
        ) from error


def _check_class(folder: Path, part: str, library: str, name: str) -> None:
    """Raise InputError where a part's class is none that pipelines are made of."""
    known = getattr({"diffusers": diffusers, "transformers": transformers}[library], name, None)
    if not (isinstance(known, type) and issubclass(known, _PART_CLASSES)):
        raise InputError(
            f"{folder / 'model_index.json'}: {part} is {library} {name!r}, and a network, tokenizer, processor or "
            f"scheduler of the installed {library} is read; update it, or give another model."
        )


def _memory_error(folder: Path) -> MachineError:
    return MachineError(f"{folder} does not fit into memory; free some, or use dtype='bfloat16'.")


def _part(folder: Path, library: str, kind: str, options: dict[str, Any], allow_pickle: bool) -> Any:
    """One network of the pipeline, with every one of its weights: by itself diffusers fills missing ones with noise."""
    safe = not allow_pickle or any(
        folder.glob("*.safetensors")
    )  # left open, diffusers complains before it reads a pickle
    network_class = getattr({"diffusers": diffusers, "transformers": transformers}[library], kind)
    _check_size(folder, network_class)
    network, report = network_class.from_pretrained(
        folder, output_loading_info=True, use_safetensors=safe, variant=_variant(folder), **options
    )
    missing = sorted(report["missing_keys"])
    if missing and not load_without_prefix(network, folder):
        raise InputError(
            f"{folder} lacks {len(missing)} of its weights, {missing[0]} first: the file is of another model; copy "
            "or download it again."
        )
    return network


def _variant(folder: Path) -> str | None:
    """The variant of the weights, such as "fp16", where a folder holds no others: `model.fp16.safetensors`."""
    found = [groups for file in sorted(folder.glob("*.safetensors")) if (groups := _WEIGHTS_FILE.fullmatch(file.name))]
    return None if any(groups["variant"] is None for groups in found) or not found else found[0]["variant"]


def load_without_prefix(network: Any, folder: Path) -> bool:
    """Load a text encoder that transformers 5 saved into the class of transformers 4, which adds a prefix to the names
    of the weights; False if the file has other names."""
    files = sorted(folder.glob("*.safetensors"))
    if getattr(network.config, "model_type", None) != "clip_text_model" or len(files) != 1:
        return False
    weights = {f"text_model.{name}": tensor for name, tensor in load_file(files[0]).items()}
    if weights.keys() != network.state_dict().keys():
        return False
    network.load_state_dict(weights)
    return True


def _check_size(folder: Path, network_class: Any) -> None:
    """Raise InputError where a configuration describes a network with far more weights than its files hold."""
    configuration = folder / "config.json"
    described = _described(network_class, folder, configuration.read_bytes() if configuration.is_file() else b"")
    stored = weights_count(folder)
    if described > 1.1 * stored + 1_000_000:
        raise InputError(
            f"{folder / 'config.json'}: describes a network of {described:,} weights, and its files hold {stored:,}: "
            "one of them is of another model; copy or download the folder again."
        )


@lru_cache(maxsize=16)
def _described(network_class: Any, folder: Path, _configuration: bytes) -> int:
    """The weights of the network that the configuration in a folder describes, which is built without memory for them
    (on torch's meta device). That takes as long as reading a small network, so it is done once for a configuration."""
    with torch.device("meta"):
        if hasattr(network_class, "load_config"):
            network = network_class.from_config(network_class.load_config(folder, local_files_only=True))
        else:
            network = network_class(network_class.config_class.from_pretrained(folder, local_files_only=True))
    return sum(parameter.numel() for parameter in network.parameters())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
