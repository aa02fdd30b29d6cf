"""`CLIPTextModel` and `CLIPTextModelWithProjection` of transformers in plain torch: same state dict, same numbers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.tokens import MAX_LENGTH


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))  # quick_gelu


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = _Attention(width, heads), _Mlp(width)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Embeddings(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.position_embedding = nn.Embedding(MAX_LENGTH, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class _Encoder(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))


class _Transformer(nn.Module):
    def __init__(self, words: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(words, width)
        self.encoder = _Encoder(width, layers, heads)
        self.final_layer_norm = nn.LayerNorm(width)


class TextEncoder(nn.Module):
    """Tokens `(n, 32)` to states; with a projection also to one vector a text (that of the first end token)."""

    def __init__(self, words: int, width: int, layers: int, heads: int, projection: int = 0) -> None:
        super().__init__()
        self.text_model = _Transformer(words, width, layers, heads)
        if projection:
            self.text_projection = nn.Linear(width, projection, bias=False)
        for name, value in self.named_parameters():
            if "embedding" in name:
                nn.init.normal_(value, std=0.02)
            elif value.ndim == 2:
                nn.init.normal_(value, std=width**-0.5 * (0.5 if "out_proj" in name or "fc2" in name else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(value)

    def forward(self, tokens: Tensor) -> Tensor:
        """The last states, normalised, `(n, 32, width)`."""
        x = self.text_model.embeddings(tokens)
        for layer in self.text_model.encoder.layers:
            x = layer(x)
        return self.text_model.final_layer_norm(x)

    def projected(self, tokens: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """The states before the last layer `(n, 32, width)`, and one vector a text `(n, projection)`."""
        before = x = self.text_model.embeddings(tokens)
        for layer in self.text_model.encoder.layers:
            before, x = x, layer(x)
        x = self.text_model.final_layer_norm(x)
        where = (tokens == end).int().argmax(-1)
        return before, self.text_projection(x[torch.arange(len(x), device=x.device), where])
