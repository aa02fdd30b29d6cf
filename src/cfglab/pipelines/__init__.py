"""diffusers pipelines: loading them and guiding them. The only place that imports diffusers."""
