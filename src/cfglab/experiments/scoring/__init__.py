"""Metrics of images that are already generated."""
