"""Images as other programs write them, made here to the form that each program documents in its own source.

A1111, Forge and SD.Next: `create_infotext` and `save_image_with_geninfo` (PNG text `parameters`, JPEG and WebP EXIF
UserComment in UTF-16). ComfyUI: `SaveImage` (PNG texts `prompt` and `workflow`); the graphs are those of its API
example and of its Flux example. InvokeAI 4: `invokeai_metadata`, one flat object.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIDE = 16


def pixels(number: int, side: int = SIDE) -> np.ndarray:
    """Noise that is another one for each number, (side, side, 3), brighter for larger numbers."""
    high = 80 + number % 170
    return np.random.default_rng(number).integers(0, high, (side, side, 3), dtype=np.uint8)


def write_png(path: Path, texts: Mapping[str, str], number: int = 0, side: int = SIDE) -> Path:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number, side)).save(path, pnginfo=info)
    return path


def write_exif(path: Path, text: str, number: int = 0) -> Path:
    """A JPEG or WebP file as piexif's UserComment of A1111 has it."""
    image = Image.fromarray(pixels(number))
    exif = image.getexif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
    image.save(path, exif=exif)
    return path


def infotext(prompt: str = "a cat", seed: int = 1, cfg: float | str = 7, **fields: Any) -> str:
    """As A1111 1.10 writes it, with a LoRA's hashes in quotes."""
    values = {
        "Steps": 20,
        "Sampler": "Euler a",
        "Schedule type": "Automatic",
        "CFG scale": cfg,
        "Seed": seed,
        "Size": f"{SIDE}x{SIDE}",
        "Model hash": "45dee52b",
        "Model": "v1-5-pruned",
        "Lora hashes": '"add_detail: 7c6bad76eb54, Seed: 99"',
        "Version": "v1.10.1",
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    line = ", ".join(f"{name}: {value}" for name, value in values.items() if value is not None)
    return f"{prompt}\nNegative prompt: blurry, low quality\n{line}"


def comfyui_graph(prompt: str = "a cat", seed: int = 1, cfg: float = 8.0, sampler: str = "euler") -> dict[str, Any]:
    """The API prompt of ComfyUI's default workflow."""
    return {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                **{"cfg": cfg, "denoise": 1, "sampler_name": sampler, "scheduler": "normal", "seed": seed, "steps": 20},
                **{"latent_image": ["5", 0], "model": ["4", 0], "negative": ["7", 0], "positive": ["6", 0]},
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"batch_size": 1, "height": 512, "width": 512}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": prompt}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "bad hands"}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    }


def flux_graph(prompt: str = "a cat", seed: int = 1, distilled: float = 3.5) -> dict[str, Any]:
    """The API prompt of ComfyUI's Flux workflow: SamplerCustomAdvanced with a BasicGuider."""
    return {
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["30", 0], "clip": ["11", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["10", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "flux", "images": ["8", 0]}},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5xxl.safetensors", "clip_name2": "clip_l"}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}},
        "13": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                **{"noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0]},
                "latent_image": ["5", 0],
            },
        },
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {
            "class_type": "BasicScheduler",
            "inputs": {"scheduler": "simple", "steps": 28, "denoise": 1, "model": ["12", 0]},
        },
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": seed}},
        "26": {"class_type": "FluxGuidance", "inputs": {"guidance": distilled, "conditioning": ["6", 0]}},
        "30": {"class_type": "PrimitiveString", "inputs": {"value": prompt}},
    }


def comfyui_texts(graph: Mapping[str, Any]) -> dict[str, str]:
    """The PNG texts of SaveImage: the API prompt, and the page's workflow with its links."""
    links = [
        [number, int(value[0]), value[1], int(key), 0, "*"]
        for number, (key, value) in enumerate(
            (key, value) for key, node in graph.items() for value in node["inputs"].values() if isinstance(value, list)
        )
    ]
    return {"prompt": json.dumps(graph), "workflow": json.dumps({"nodes": [], "links": links, "version": 0.4})}


def invokeai_text(seed: int = 1, cfg: Any = 7.5, **fields: Any) -> dict[str, str]:
    """The PNG text of InvokeAI 4."""
    values = {
        **{"generation_mode": "sdxl_txt2img", "positive_prompt": "a cat", "negative_prompt": "blurry"},
        **{"width": 1024, "height": 1024, "seed": seed, "rand_device": "cpu", "cfg_scale": cfg},
        **{"steps": 30, "scheduler": "dpmpp_2m_k", "loras": [], "app_version": "4.2.9"},
        "model": {"key": "5bc2", "hash": "blake3:ab", "name": "Juggernaut XL v9", "base": "sdxl", "type": "main"},
        **fields,
    }
    return {"invokeai_metadata": json.dumps(values)}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(path: Path, kind: bytes, data: bytes) -> Path:
    """The PNG file with one more chunk behind its header."""
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk(kind, data) + content[33:])
    return path
