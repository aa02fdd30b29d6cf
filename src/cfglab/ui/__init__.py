"""The playground: `cfglab ui`, a page in the browser for guidance on a model. The only place that imports Gradio."""
