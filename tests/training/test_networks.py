"""The networks that are trained compute what those of diffusers and transformers do, from the same state dict."""

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from training import tokens
from training.clip import TextEncoder
from training.mmdit import Transformer
from training.unet import Unet
from training.vae import Autoencoder


def scrambled(model: nn.Module) -> nn.Module:
    """Random weights everywhere, so that nothing that starts at zero hides a difference."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.5 / max(1, value[0].numel() if value.ndim > 1 else 4) ** 0.5, generator=generator)
    return model.eval()


@torch.no_grad()
def test_the_autoencoder_is_that_of_diffusers():
    ours = scrambled(Autoencoder((8, 16, 24), 1, 4))
    theirs = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 24),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    pixels = torch.randn(2, 3, 32, 32)
    mean, logvar = ours.encode(pixels)
    posterior = theirs.encode(pixels).latent_dist
    torch.testing.assert_close(mean, posterior.mean)
    torch.testing.assert_close(logvar, posterior.logvar)
    torch.testing.assert_close(ours.decode(mean), theirs.decode(mean).sample)


@torch.no_grad()
def test_the_denoiser_is_the_unet_of_diffusers():
    ours = scrambled(Unet(5, (16, 32, 48), 24, groups=8))
    theirs = UNet2DConditionModel(
        sample_size=8,
        in_channels=5,
        out_channels=5,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    noisy, timesteps, context = torch.randn(2, 5, 8, 8), torch.tensor([3, 981]), torch.randn(2, 7, 24)
    predicted, inner = ours(noisy, timesteps, context)
    torch.testing.assert_close(predicted, theirs(noisy, timesteps, context).sample)
    assert inner.shape == (2, 32, 4, 4)


@torch.no_grad()
def test_the_flow_transformer_is_that_of_stable_diffusion_3_and_256_tokens_of_zeros_count_as_one():
    ours = scrambled(Transformer(5, 2, 8, width=32, heads=2, layers=2, joint=12, pooled=10))
    theirs = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=5,
        out_channels=5,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=32,
        pooled_projection_dim=10,
        pos_embed_max_size=4,
        qk_norm="rms_norm",
    ).eval()
    assert torch.equal(ours.pos_embed.pos_embed, theirs.pos_embed.pos_embed)
    theirs.load_state_dict(ours.state_dict())
    noisy, timesteps = torch.randn(2, 5, 8, 8), torch.tensor([30.5, 981.0])
    text, pooled = torch.randn(2, 7, 12), torch.randn(2, 10)
    for zeros in (0, 256):
        padded = torch.cat([text, torch.zeros(2, zeros, 12)], 1)
        expected = theirs(noisy, padded, pooled, timesteps).sample
        torch.testing.assert_close(ours(noisy, timesteps, text, pooled, zeros)[0], expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_text_encoders_are_those_of_transformers():
    vocabulary = tokens.vocabulary()
    ours = scrambled(TextEncoder(len(vocabulary), 24, 2, 4, projection=10))
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=24,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokens.MAX_LENGTH,
        projection_dim=10,
        bos_token_id=vocabulary[tokens.START],
        eos_token_id=vocabulary[tokens.END],
        pad_token_id=vocabulary[tokens.END],
    )
    ids = tokens.encode_all(["", "a photograph of an astronaut riding a horse"])
    projecting = CLIPTextModelWithProjection(config).eval()
    projecting.load_state_dict(ours.state_dict())
    found = projecting(ids, output_hidden_states=True)
    before, pooled = ours.projected(ids, vocabulary[tokens.END])
    torch.testing.assert_close(before, found.hidden_states[-2])
    torch.testing.assert_close(pooled, found.text_embeds)
    plain = CLIPTextModel(config).eval()
    state = {k: v for k, v in ours.state_dict().items() if k != "text_projection.weight"}
    plain.load_state_dict(state if "text_model.final_layer_norm.weight" in plain.state_dict() else _stripped(state))
    torch.testing.assert_close(ours(ids), plain(ids).last_hidden_state)


def _stripped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("text_model."): value for key, value in state.items()}


def test_the_tokenizer_is_the_clip_tokenizer_of_its_vocabulary_for_any_text():
    theirs = CLIPTokenizer(vocab=tokens.vocabulary(), merges=list(tokens.merges()), model_max_length=tokens.MAX_LENGTH)
    texts = [
        "",
        "a photograph of an astronaut riding a horse",
        "mdjrny-v4 style an image of three butterflies on a grey background",
        "high quality, A Red car next to a blue balloon.",
        "it's 12 o'clock; naïve café — 日本 ☃  under_score !!!",
        "word " * 50,
    ]
    for text in texts:
        expected = theirs(text, padding="max_length", truncation=True, max_length=tokens.MAX_LENGTH).input_ids
        assert list(tokens.encode(text)) == expected, text
    assert len(tokens.encode("a photograph of two flowers")) == tokens.MAX_LENGTH
