"""Running an experiment: batches, retries, the one writer."""
