"""A StableDiffusionPipeline from a name, quietly, with every fault as one line."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from cfglab.errors import InputError, MachineError
from cfglab.pipelines.blocks import compile_in_blocks
from cfglab.pipelines.folder import PARTS, locate, read_json
from cfglab.pipelines.quiet import StableDiffusionPipeline, quiet
from cfglab.pipelines.samplers import make_sampler
from cfglab.schedules.fields import nearest

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(
    name: str | Path = "scenes",
    *,
    device: str = "auto",
    dtype: str = "float32",
    sampler: str | None = None,
    compiled: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
) -> StableDiffusionPipeline:
    """The pipeline of `scenes`, of a folder, or of a hub id (naming one is consent to download it), ready to call.

    `device` "auto" takes CUDA, then Apple's GPU, then the CPU. `sampler` is one of SAMPLERS; None keeps the model's
    own. `compiled` runs the denoiser through torch.compile, in blocks of a fixed size: slow to start, faster after. A
    safety checker is never loaded. Pickled weights are refused unless `allow_pickle`, and then read with
    weights-only loading. Raises InputError for what was asked wrongly, MachineError where the machine fails.
    """
    if dtype not in DTYPES:
        raise InputError(f"no dtype {dtype!r}: there are {', '.join(DTYPES)};{nearest(dtype, DTYPES) or ' name one.'}")
    target = find_device(device)
    folder = locate(name, revision, allow_pickle)
    with quiet():
        pipe = _read(folder, DTYPES[dtype], allow_pickle)
        if sampler is not None:
            pipe.scheduler = make_sampler(sampler, pipe.scheduler.config)
    if compiled:
        compile_in_blocks(pipe.unet)
    try:
        return pipe.to(target)
    except RuntimeError as error:
        raise MachineError(f"{folder} does not fit on {target}: {_first_line(error)}; try device='cpu'.") from error


def find_device(name: str) -> torch.device:
    """The torch device of that name. Raises InputError where it is none, or this machine has none."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in has.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"no device {name!r}: there are auto, cpu, cuda, cuda:1 and mps; name one.") from None
    if not has.get(device.type, True) or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device {name!r}: this machine has none; use auto or cpu.")
    return device


def check_prompt(pipe: StableDiffusionPipeline, prompt: str, what: str = "prompt") -> None:
    """Raise InputError if the text encoder would not see all of the prompt, saying which words it would lose.

    `what` is what the message calls it.
    """
    limit = int(pipe.tokenizer.model_max_length)
    with quiet():
        tokens = pipe.tokenizer(prompt, truncation=False)["input_ids"]
    if len(tokens) > limit:
        lost = pipe.tokenizer.decode(tokens[limit - 1 : -1], clean_up_tokenization_spaces=False).strip()
        shown = prompt if len(prompt) <= 60 else f"{prompt[:60]}…"
        raise InputError(
            f"{what} {shown!r} has {len(tokens) - 2} tokens: the text encoder reads {limit - 2}, so {lost[:60]!r} "
            "would be lost; shorten it."
        )


def _read(folder: Path, dtype: torch.dtype, allow_pickle: bool) -> StableDiffusionPipeline:
    options = {"torch_dtype": dtype, "local_files_only": True}
    index = read_json(folder / "model_index.json")
    try:
        parts = {part: _part(folder / part, index[part], options, allow_pickle) for part in PARTS}
        return StableDiffusionPipeline.from_pretrained(
            folder,
            **parts,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            local_files_only=True,
        )
    except InputError:
        raise
    except MemoryError as error:
        raise MachineError(f"{folder} does not fit into memory; free some, or use dtype='bfloat16'.") from error
    except Exception as error:  # whatever a damaged file makes of diffusers and transformers
        raise InputError(
            f"{folder} cannot be read as a Stable Diffusion pipeline: {_first_line(error)}; copy or download it again."
        ) from error


def _part(folder: Path, kind: list[str], options: dict[str, Any], allow_pickle: bool) -> Any:
    """One network of the pipeline, with every one of its weights: by itself diffusers fills missing ones with noise."""
    safe = not allow_pickle or any(
        folder.glob("*.safetensors")
    )  # left open, diffusers complains before it reads a pickle
    library = {"diffusers": diffusers, "transformers": transformers}[kind[0]]
    network, report = getattr(library, kind[1]).from_pretrained(
        folder, output_loading_info=True, use_safetensors=safe, **options
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of its weights, {missing[0]} first: the file is of another model; copy "
            "or download it again."
        )
    return network


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
