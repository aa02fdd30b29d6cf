"""Ray: many workers generate the batches of one run."""
