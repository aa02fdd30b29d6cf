"""guide(pipe, guidance): intercepting the calls of a pipeline and of its denoiser."""
