"""For any denoiser: the step of each call, and the rows of its batch that need to run."""
