"""Tiny tokenizers and encoders of text and images, as `parts` offers them."""

from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

WIDTH = 32  # of every text encoder
TOKENS = 77  # of CLIP


def clip_tokenizer(length: int = TOKENS) -> Any:
    """CLIP's tokenizer knowing single letters only."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)}, merges=[], model_max_length=length
    )


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>", "<|endoftext|>"]
VOCABULARY = 256 + len(SPECIAL)
MULTILINGUAL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 37,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
}
"""The configuration of a text encoder of RoBERTa's kind: of Kandinsky 2.1 and AltDiffusion."""
IMAGE_TOKEN, VIDEO_TOKEN, VISION_START, VISION_END = 8, 9, 6, 7  # places in SPECIAL


def tokenizer(
    length: int = 64, *, start: bool = False, end: bool = False, side: str = "right", chat: str = CHAT, **more: Any
) -> Any:
    """A fast tokenizer of bytes, for T5, Gemma, Llama and Qwen alike.

    `start` puts <s> before every text, as Gemma and Llama do, `end` </s> after it, as T5 does: even "" has a token.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if start or end:
        inner.post_processor = processors.TemplateProcessing(
            single=" ".join(["<s>"] * start + ["$A"] + ["</s>"] * end), special_tokens=[("</s>", 1), ("<s>", 2)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        unk_token="<unk>",
        model_max_length=length,
        padding_side=side,
        chat_template=chat,
        **more,
    )


def clip_text(*, projection: int | None = None, **more: Any) -> Any:
    """CLIP's text encoder; with `projection` the kind that also gives one vector a prompt."""
    config = transformers.CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        projection_dim=projection or WIDTH,
        **more,
    )
    return (transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel)(config)


def clip_vision(*, projection: int = WIDTH, size: int = 32, patch: int = 8) -> Any:
    """CLIP's image encoder."""
    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            image_size=size,
            patch_size=patch,
            projection_dim=projection,
        )
    )


def clip_pictures(size: int = 32) -> Any:
    """CLIP's image processor."""
    return transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def t5(width: int = WIDTH, *, encoder: Any = None) -> Any:
    """T5's encoder."""
    return (encoder or transformers.T5EncoderModel)(
        transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )


def language(kind: str, width: int = WIDTH, *, layers: int = 2, head: bool = False, **more: Any) -> Any:
    """A decoder-only language model of `transformers`: "Gemma2", "Llama", "Qwen2", "Qwen3", "Mistral", "Glm", …"""
    config = getattr(transformers, kind + "Config")(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": width,
            "intermediate_size": 37,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 1024,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 1,
            **more,
        }
    )
    return getattr(transformers, kind + ("ForCausalLM" if head else "Model"))(config)
