"""The example workflows as prompts of ComfyUI's API; `make_examples.py` has the page draw them."""

from typing import Any

Prompt = dict[str, dict[str, Any]]
TUNED = (
    '{"schedule": {"kind": "cosine", "max": 6.0, "min": 1.5, "k": 0.5}, '
    '"transforms": [{"kind": "rescale", "strength": 0.5}]}'
)
"""A file as `cfglab tune` writes it, in ComfyUI's input folder."""


def _node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


def _scenes(prompt: str = "a photograph of an astronaut riding a horse") -> Prompt:
    return {
        "1": _node("CfglabScenes", "Load scenes (cfglab)"),
        "2": _node("CLIPTextEncode", "Prompt", text=prompt, clip=["1", 1]),
        "3": _node("CLIPTextEncode", "Negative prompt", text="", clip=["1", 1]),
        "4": _node("EmptyLatentImage", "128 x 128 pixels", width=128, height=128, batch_size=1),
    }


def _sampled(model: Any, latent: Any, prefix: str, steps: int = 12) -> Prompt:
    sampler = {"seed": 3, "steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return {
        "6": _node("KSampler", model=model, positive=["2", 0], negative=["3", 0], latent_image=latent, **sampler),
        "7": _node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "8": _node("SaveImage", images=["7", 0], filename_prefix=prefix),
    }


WORKFLOWS: dict[str, Prompt] = {
    "guidance_and_trace": {
        **_scenes(),
        "5": _node(
            "CfglabGuidance", "Guidance (cfglab)", model=["1", 0], guidance="cosine(max=7.5, min=1, k=0.3) | apg()"
        ),
        **_sampled(["5", 0], ["4", 0], "guidance"),
        "9": _node("CfglabTrace", "Trace (cfglab)", model=["5", 0], latent=["6", 0]),
        "10": _node("PreviewImage", images=["9", 0]),
        "11": _node("PreviewAny", source=["9", 1]),
    },
    "guidance_list": {
        **_scenes(),
        "5": _node(
            "CfglabGuidanceList",
            "Guidance list (cfglab)",
            model=["1", 0],
            latent=["4", 0],
            guidances="1\n3\n7.5\ncosine(max=7.5, min=1, k=0.3)\n7.5 | apg()\n5 | pag()",
        ),
        **_sampled(["5", 0], ["5", 1], "list"),
    },
    "further_prompts": {
        **_scenes(),
        "12": _node("CLIPTextEncode", "Further prompt", text="a photograph of a horse", clip=["1", 1]),
        "5": _node(
            "CfglabGuidance",
            "Guidance (cfglab)",
            model=["1", 0],
            guidance="7.5 | perp_neg(prompt='a photograph of a horse', weight=0.5)",
            prompt_1=["12", 0],
        ),
        **_sampled(["5", 0], ["4", 0], "perp_neg"),
    },
    "schedules": {
        "1": _node("CfglabScenes", "Load scenes (cfglab)"),
        "2": _node("BasicScheduler", model=["1", 0], scheduler="karras", steps=20, denoise=1.0),
        "3": _node(
            "CfglabSchedule",
            "Schedule (cfglab)",
            schedule="cosine(max=7.5, min=1, k=0.3).inside(sigma=(0.2, 10))",
            steps=20,
            sigmas=["2", 0],
            model=["1", 0],
        ),
        "4": _node("PreviewImage", images=["3", 1]),
        "5": _node("PreviewAny", source=["3", 0]),
        "6": _node(
            "CfglabCurve", "Curve to schedule (cfglab)", points="0:0, 0.2:1, 0.6:0.7, 1:0", steps=20, min=1.0, max=7.5
        ),
        "7": _node("PreviewImage", images=["6", 2]),
        "8": _node("PreviewAny", source=["6", 0]),
    },
    "tuned": {
        **_scenes(),
        "12": _node("CfglabTuned", "Tuned guidance (cfglab)", file="tuned.json"),
        "5": _node("CfglabGuidance", "Guidance (cfglab)", model=["1", 0], guidance=["12", 0]),
        **_sampled(["5", 0], ["4", 0], "tuned"),
    },
}
