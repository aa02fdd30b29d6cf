"""Perturbed passes: the denoiser rows run once more with a change. One kind of change per file; methods ask for them.

- `self_attention`: self-attention replaced by the identity, or with blurred queries (PAG, SEG)
- `blurred_sample`: the sample blurred at the positions with most attention (SAG)
- `skipped_layers`: layers left out, named or random (SLG, S2, a variant of autoguidance)
- `weak_models`: another network, by its name (autoguidance)
- `noised_text`: noise in the text encodings (ICG, CADS)
- `noised_timestep`: noise in the embedding of the timestep (TSG); `shifted_timestep`: another timestep (SG)
- `shuffled_tokens`: tokens in another order (TPG); `sparse_attention`: sparse cross-attention (PLADIS)
- `cropped_sample`: the sample in overlapping crops (SWG)
- `normalized_attention`: attention to the text guided away from another text (NAG); `flipped_values`: another text with
  flipped values (VSF)
- `hooks` finds layers and removes hooks again, `layer_names` knows what they are called; `joint_attention` knows which
  tokens of a transformer are the image, and replaces products; `per_image_noise` makes the noise of each row.

A change of a few lines stands in the file of its method: `methods/second_prompt.py`.
"""
