"""Plans: hypotheses that are written down before any image, and tested on any model."""
