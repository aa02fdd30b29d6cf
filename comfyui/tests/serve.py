"""Start the server of a ComfyUI checkout on a CPU with this pack: python serve.py FOLDER PORT, with COMFYUI set."""

import os
import runpy
import sys
from pathlib import Path

FOLDER, PORT = Path(sys.argv[1]), sys.argv[2]

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from stubs import COMFYUI, stub_vision_and_audio

    stub_vision_and_audio()
    for name in ("custom_nodes", "input", "output", "models", "user"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    link = FOLDER / "custom_nodes" / "cfglab-comfyui"
    if not link.exists():
        link.symlink_to(Path(__file__).parents[1], target_is_directory=True)
    os.chdir(COMFYUI)
    sys.path.insert(0, COMFYUI)
    sys.argv = [
        *("main.py", "--cpu", "--listen", "127.0.0.1", "--port", PORT, "--base-directory", str(FOLDER)),
        *("--database-url", "sqlite:///:memory:", "--disable-api-nodes"),
    ]
    runpy.run_path("main.py", run_name="__main__")
