"""Images that other programs made, as a run: `metadata` reads a file, `comfyui` a workflow, `importer` the folders."""
