"""Rebuild everything under `src/cfglab/scenes/weights` from nothing; each step resumes. Hours: training/README.md.

python -m training.build
"""

import subprocess
import sys
from pathlib import Path

STEPS = (
    ("make_sprites.py",),
    ("autoencoder.py", "--steps", "9500"),
    ("latents.py", "--count", "30000"),
    ("decoder.py", "--steps", "9000"),
    ("reader.py", "--which", "1", "--steps", "2200"),
    ("reader.py", "--which", "2", "--steps", "5000"),
    ("denoiser.py", "--steps", "10600", "--decay", "2700"),
    ("twin.py", "--steps", "400"),
    ("export.py",),
)


def main() -> None:
    root = Path(__file__).parents[1]
    for script, *arguments in STEPS:
        print(f"== {script} {' '.join(arguments)}", flush=True)
        subprocess.run(
            [sys.executable, "-m", f"training.{script.removesuffix('.py')}", *arguments], cwd=root, check=True
        )


if __name__ == "__main__":
    main()
