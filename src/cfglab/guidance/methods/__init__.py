"""Published guidance methods, one idea a file; the index is in `docs/methods.md`."""
