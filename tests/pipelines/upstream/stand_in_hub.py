"""A hub without a network: what diffusers' tests load of it, made here, tiny and random; a test that wants more is
skipped by the name of what it wants."""

import importlib.util
import inspect
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers


def _parts() -> Any:
    """families/parts_text.py, which imports nothing of ours, under a name that no checkout has."""
    file = Path(__file__).resolve().parents[1] / "families" / "parts_text.py"
    spec = importlib.util.spec_from_file_location("_cfglab_parts_text", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PARTS = _parts()


def _t5_config() -> Any:
    return transformers.T5Config(
        vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=5, num_heads=4, relative_attention_num_buckets=8
    )


CONFIGS: dict[str, Callable[[], Any]] = {"hf-internal-testing/tiny-random-t5": _t5_config}
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "hf-internal-testing/tiny-random-t5": lambda: PARTS.tokenizer(512, end=True),
    "hf-internal-testing/tiny-random-clip": lambda: PARTS.clip_tokenizer(),
    "hf-internal-testing/tiny-random-Qwen2VLForConditionalGeneration": lambda: PARTS.tokenizer(1024),
    "hf-internal-testing/dummy-gemma": lambda: PARTS.tokenizer(512, start=True),
    "hf-internal-testing/tiny-random-BertModel": lambda: PARTS.tokenizer(77, start=True, end=True),
    "finetrainers/dummy-hunyaunvideo": lambda: PARTS.tokenizer(512, start=True),
    "YiYiXu/tiny-random-mclip-base": lambda: PARTS.tokenizer(77, start=True, end=True),
    "hf-internal-testing/tiny-random-LlamaForCausalLM": lambda: PARTS.tokenizer(512, start=True),
}
CLIP_TEXT = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}


def install() -> None:
    """Put the stand-in in the place of every `from_pretrained` that the tests call."""
    for kind in (transformers.AutoConfig, transformers.PretrainedConfig):
        _stand_in(kind, _config)
    for kind in (transformers.AutoTokenizer, transformers.PreTrainedTokenizerBase):
        _stand_in(kind, _tokenizer)
    for kind in (transformers.PreTrainedModel, transformers.AutoModel):
        _stand_in(kind, _model)
    for name in ("ImageProcessingMixin", "ProcessorMixin", "FeatureExtractionMixin", "AutoProcessor"):
        if kind := getattr(transformers, name, None):
            _stand_in(kind, _nothing)
    import diffusers

    for kind in (diffusers.ModelMixin, diffusers.DiffusionPipeline, diffusers.SchedulerMixin):
        _stand_in(kind, _nothing)


def _stand_in(kind: Any, make: Callable[[Any, str], Any]) -> None:
    """`kind.from_pretrained(name)` for a name that is no folder of this machine."""
    own = inspect.getattr_static(kind, "from_pretrained")
    original = getattr(own, "__func__", own)

    @wraps(original)
    def from_pretrained(cls: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(name, str) or Path(name).exists():
            return (
                original(cls, name, *args, **kwargs)
                if isinstance(own, classmethod)
                else original(name, *args, **kwargs)
            )
        return make(cls, name)

    kind.from_pretrained = classmethod(from_pretrained)


def _config(_cls: Any, name: str) -> Any:
    return CONFIGS[name]() if name in CONFIGS else _nothing(_cls, name)


def _tokenizer(_cls: Any, name: str) -> Any:
    return TOKENIZERS[name]() if name in TOKENIZERS else _nothing(_cls, name)


def _model(cls: Any, name: str) -> Any:
    """Weights do not depend on when they are made: a test compares two of them."""
    if name in CONFIGS and cls is not transformers.AutoModel:
        return _made(cls, name)
    return _nothing(cls, name)


def _made(cls: Any, name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(CONFIGS[name]()).eval()


@cache
def _wanted() -> dict[str, int]:
    return {}


def _nothing(_cls: Any, name: str) -> Any:
    _wanted()[name] = _wanted().get(name, 0) + 1
    pytest.skip(f"needs {name} of the hub, which the stand-in does not have")
