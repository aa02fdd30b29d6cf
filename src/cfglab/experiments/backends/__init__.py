"""What generates the images of a batch: a pipeline or an exact mixture."""
