"""Prints the options of stable-diffusion.cpp for a guidance:

sd-cli -m model.gguf -p "a cat" $(python sd_guidance.py "cosine(max=8, min=2)" --steps 20)
"""

import argparse
import json
import shlex
import sys

from cfglab.errors import CfglabError
from cfglab.guidance.sd_cpp import to_sd_cpp_arguments, to_sd_cpp_request


def main() -> int:
    """Print the options, or with --request the part of a request to the server as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("guidance", help="the text of a guidance")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--latents", type=int, nargs="+", help="shape of a latent image, for apg(norm_threshold=...)")
    parser.add_argument("--high-noise-steps", type=int, default=0, help="steps of Wan 2.2's first expert; a request")
    parser.add_argument("--request", action="store_true", help="JSON for the server instead of options")
    given = parser.parse_args()
    try:
        if given.request or given.high_noise_steps:
            request = to_sd_cpp_request(given.guidance, given.steps, given.high_noise_steps, latents=given.latents)
            print(json.dumps(request, indent=2))
        else:
            print(shlex.join(to_sd_cpp_arguments(given.guidance, given.steps, latents=given.latents)))
    except CfglabError as error:
        print(f"sd_guidance: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
