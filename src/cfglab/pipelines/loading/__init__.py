"""Loading a pipeline from a folder or the hub."""
