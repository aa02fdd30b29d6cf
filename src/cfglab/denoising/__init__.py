"""Around any denoiser: which step a call is, and which rows of its batch have to be run."""
