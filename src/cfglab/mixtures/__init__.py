"""Exact Gaussian mixtures: denoisers, samples and metrics in closed form."""
