"""A small experiment as text."""

SMALL = """
name: small
question: Does anything differ?
prompts: [a cat, a photograph of an astronaut riding a horse]
seeds: 0..1
steps: 3
baseline: {name: constant, guidance: "7.5"}
groups:
  - {name: falling, title: "k = {k}", guidance: "cosine(max=7.5, min=1, k={k})", axes: {k: [0.3, 1]}}
"""
