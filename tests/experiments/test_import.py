"""Images of other programs become a run that compare, report and score read."""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

import cfglab as cl
from cfglab import cli
from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.importing.generation import Generation, Unusable
from cfglab.experiments.importing.importer import import_images
from cfglab.experiments.importing.metadata import read_generation
from tests.experiments.foreign_images import (
    chunk,
    comfyui_graph,
    comfyui_texts,
    flux_graph,
    infotext,
    invokeai_text,
    pixels,
    with_chunk,
    write_exif,
    write_png,
)

PROMPTS = ("a cat", "a dog, running", "夏の城")


def webui_folder(folder: Path, scales: tuple[float, ...] = (5, 7)) -> Path:
    for place, prompt in enumerate(PROMPTS):
        for seed in (1, 2):
            for cfg in scales:
                number = 100 * place + 10 * seed + int(20 * cfg)
                write_png(folder / "day" / f"{number}.png", {"parameters": infotext(prompt, seed, cfg)}, number)
    return folder


# -- one file


def test_an_a1111_image_is_read_as_an_independent_reader_does(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", {"parameters": infotext("a (cat:1.2), red", 12345, 6.5, Clip_skip=2)})
    made = read_generation(path)
    parsed = ParserManager().parse(path)
    assert parsed is not None
    (sampler,) = parsed.samplers
    assert (made.prompt, made.negative) == (parsed.full_prompt, parsed.full_negative_prompt)
    assert (made.sampler, str(made.seed), str(made.steps)) == (
        sampler.name,
        "12345",  # sd-parsers reads the Seed inside the quoted hashes
        sampler.parameters["steps"],
    )
    assert str(made.guidance) == sampler.parameters["cfg_scale"]
    assert sampler.model is not None
    assert made.model == sampler.model.name
    assert made.settings == {"Schedule type": "Automatic", "Size": "16x16", "Clip skip": "2"}
    assert made.program == "A1111"


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "webp"])
def test_the_text_of_a_jpeg_and_a_webp_file_is_read(tmp_path: Path, ending: str) -> None:
    made = read_generation(write_exif(tmp_path / f"a.{ending}", infotext("夏の城", 3)))
    assert (made.prompt, made.seed, str(made.guidance)) == ("夏の城", 3, "7")


def test_forge_and_sd_next_are_named(tmp_path: Path) -> None:
    forge = infotext(cfg=1, Version="f2.0.1v1.10.1", Distilled_CFG_Scale=3.5)
    made = read_generation(write_png(tmp_path / "forge.png", {"parameters": forge}))
    assert (made.program, made.settings["Distilled CFG Scale"]) == ("Forge", "3.5")
    vlad = "a cat\nSteps: 20, Size: 16x16, Seed: 1, CFG scale: 6, Sampler: UniPC, App: SD.Next, Version: 9e5a7c1"
    made = read_generation(write_png(tmp_path / "vlad.png", {"parameters": vlad}))
    assert (made.program, made.negative, made.model) == ("SD.Next", "", "unknown")


def test_a_text_file_beside_an_image_is_read(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", {})
    path.with_suffix(".txt").write_text(infotext(seed=8), encoding="utf-8")
    assert read_generation(path).seed == 8


def test_an_image_of_cfglab_keeps_its_guidance(tmp_path: Path) -> None:
    text = (
        'a cat\nSteps: 3, Sampler: LMS, Seed: 1, cfglab guidance: "cosine(max=7.5, min=1, k=0.3) | apg()", App: cfglab'
    )
    made = read_generation(write_png(tmp_path / "a.png", {"parameters": text}))
    assert made.guidance == cl.Guidance("cosine(max=7.5, min=1, k=0.3) | apg()")
    assert made.program == "cfglab"


def test_a_comfyui_image_is_read_as_an_independent_reader_does(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", comfyui_texts(comfyui_graph("a cat", 156680208700286, 8.5, "dpmpp_2m")))
    made = read_generation(path)
    parsed = ParserManager().parse(path)
    assert parsed is not None
    (sampler,) = parsed.samplers
    assert (made.prompt, made.negative) == (parsed.full_prompt, parsed.full_negative_prompt)
    assert made.sampler == sampler.name
    assert (made.seed, made.steps) == (sampler.parameters["seed"], sampler.parameters["steps"])
    assert str(made.guidance) == str(sampler.parameters["cfg_scale"])
    assert made.model == "v1-5-pruned-emaonly"
    latent = {f"EmptyLatentImage {name}": value for name, value in (("width", "512"), ("height", "512"))}
    assert made.settings == {"scheduler": "normal", "denoise": "1", "EmptyLatentImage batch_size": "1", **latent}


def test_a_comfyui_image_made_through_the_api_has_no_workflow_and_is_read(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", {"prompt": json.dumps(comfyui_graph(seed=4))})
    assert read_generation(path).seed == 4


def test_flux_in_comfyui_is_one_conditional_pass_with_a_distilled_scale(tmp_path: Path) -> None:
    made = read_generation(write_png(tmp_path / "a.png", comfyui_texts(flux_graph("a cat", 9, 3.5))))
    assert (made.prompt, made.seed, made.steps, made.sampler) == ("a cat", 9, 28, "euler")
    assert str(made.guidance) == "1"
    assert made.model == "flux1-dev"
    assert made.settings == {
        **{"FluxGuidance guidance": "3.5", "scheduler": "simple", "denoise": "1", "UNETLoader weight_dtype": "default"},
        **{"DualCLIPLoader clip_name1": "t5xxl.safetensors", "DualCLIPLoader clip_name2": "clip_l"},
        **{"EmptyLatentImage width": "1024", "EmptyLatentImage height": "1024", "EmptyLatentImage batch_size": "1"},
        "VAELoader vae_name": "ae.safetensors",
    }


def test_patches_on_the_model_of_comfyui_are_settings_and_a_cfglab_node_is_the_guidance(tmp_path: Path) -> None:
    graph = comfyui_graph()
    graph["3"]["inputs"]["model"] = ["20", 0]
    graph["20"] = {"class_type": "RescaleCFG", "inputs": {"model": ["21", 0], "multiplier": 0.7}}
    graph["21"] = {"class_type": "CfglabGuidance", "inputs": {"model": ["4", 0], "guidance": "5 | apg()"}}
    made = read_generation(write_png(tmp_path / "a.png", comfyui_texts(graph)))
    assert made.guidance == cl.Guidance("5 | apg()")
    assert made.settings["RescaleCFG multiplier"] == "0.7"
    assert made.model == "v1-5-pruned-emaonly"


def test_a_guidance_that_a_workflow_does_not_record_is_not_taken_for_its_cfg(tmp_path: Path) -> None:
    graph = comfyui_graph()
    graph["3"]["inputs"]["model"] = ["20", 0]
    graph["20"] = {"class_type": "CfglabGuidance", "inputs": {"model": ["21", 0], "guidance": ["22", 0]}}
    graph["21"] = {"class_type": "CfglabScenes", "inputs": {}}
    graph["22"] = {"class_type": "CfglabTuned", "inputs": {"file": "tuned.json"}}
    with pytest.raises(Unusable, match="from another node, whose text is not recorded"):
        read_generation(write_png(tmp_path / "a.png", comfyui_texts(graph)))
    graph["22"] = {"class_type": "PrimitiveString", "inputs": {"value": "5 | pag()"}}
    made = read_generation(write_png(tmp_path / "a.png", comfyui_texts(graph)))
    assert (str(made.guidance), made.model) == (str(cl.Guidance("5 | pag()")), "CfglabScenes")
    graph["20"]["class_type"] = "CfglabGuidanceList"
    with pytest.raises(Unusable, match="each image has its own guidance"):
        read_generation(write_png(tmp_path / "a.png", comfyui_texts(graph)))


def test_a_second_pass_of_comfyui_is_a_setting_of_the_first(tmp_path: Path) -> None:
    graph = comfyui_graph(seed=5, cfg=8)
    second = json.loads(json.dumps(graph["3"]))
    second["inputs"] |= {"latent_image": ["10", 0], "denoise": 0.5, "cfg": 4, "seed": 6}
    graph |= {
        "10": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 768}},
        "11": second,
    }
    graph["8"]["inputs"]["samples"] = ["11", 0]
    made = read_generation(write_png(tmp_path / "a.png", comfyui_texts(graph)))
    assert (made.seed, str(made.guidance)) == (5, "8")
    assert made.settings["pass 2 denoise"] == "0.5"
    assert made.settings["pass 2 scale"] == "4"


def test_an_invokeai_image_is_read(tmp_path: Path) -> None:
    made = read_generation(write_png(tmp_path / "a.png", invokeai_text(seed=11, cfg=7.5)))
    assert (made.prompt, made.negative, made.seed, made.steps) == ("a cat", "blurry", 11, 30)
    assert (made.sampler, made.model, str(made.guidance)) == ("dpmpp_2m_k", "Juggernaut XL v9", "7.5")
    listed = read_generation(write_png(tmp_path / "b.png", invokeai_text(cfg=[7.0] * 20 + [3.0] * 10)))
    assert listed.guidance.schedule.values(30) == [7.0] * 20 + [3.0] * 10


def test_an_image_of_invokeai_2_is_read(tmp_path: Path) -> None:
    image = {"prompt": [{"prompt": "a cat", "weight": 1}], "steps": 50, "cfg_scale": 7.5, "seed": 3, "sampler": "k_lms"}
    text = {"sd-metadata": json.dumps({"model_weights": "stable-diffusion-1.5", "image": image})}
    made = read_generation(write_png(tmp_path / "a.png", text))
    assert (made.prompt, made.seed, made.sampler, made.model) == ("a cat", 3, "k_lms", "stable-diffusion-1.5")


# -- a folder


def test_a_folder_of_a1111_images_ends_in_a_report_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = webui_folder(tmp_path / "images")
    assert cli.call(["import", str(folder), "--out", str(tmp_path / "run"), "-q"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("12 images in 2 configurations, 6 pairs of prompt and seed\n")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert [setting["name"] for setting in report["settings"]] == ["scale=5", "scale=7"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Euler a, 20 steps" in page.replace("\u00a0", " ").replace("\u202f", " ")
    assert "<dt>precision</dt>" not in page  # it is not recorded
    assert cli.call(["compare", str(tmp_path / "run"), "--metric", "contrast"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("scale=7"))
    assert "[" in row
    assert "+" in row


def test_a_folder_of_comfyui_images_ends_in_a_report_with_intervals(tmp_path: Path) -> None:
    for place, prompt in enumerate(PROMPTS):
        for seed in (1, 2):
            for cfg in (5.0, 7.0):
                number = 100 * place + 10 * seed + int(20 * cfg)
                texts = comfyui_texts(comfyui_graph(prompt, seed, cfg))
                write_png(tmp_path / "in" / f"ComfyUI_{number:05}_.png", texts, number)
    assert cli.call(["import", str(tmp_path / "in"), "--out", str(tmp_path / "run"), "-q"]) == 0
    with cl.Store.open(tmp_path / "run") as store:
        (row,) = compare(store, "contrast", baseline="scale=5").rows
    assert (row.setting, row.n) == ("scale=7", 6)
    assert row.low is not None
    assert row.high is not None
    assert row.low < row.difference < row.high
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_run_holds_the_pixels_prompts_seeds_and_scales_of_the_folder(tmp_path: Path) -> None:
    import_images([webui_folder(tmp_path / "images")], tmp_path / "run")
    with cl.Store.open(tmp_path / "run") as store:
        experiment, results = store.experiment, store.results()
    assert experiment.imported
    assert experiment.noise == "crossed"
    assert (experiment.negative, experiment.steps, experiment.sampler) == ("blurry, low quality", 20, "Euler a")
    assert {setting.name: str(setting.guidance) for setting in experiment.settings} == {"scale=5": "5", "scale=7": "7"}
    for result in results:
        number = 100 * PROMPTS.index(result.prompt) + 10 * result.seed + 20 * int(result.setting[-1])
        with Image.open(tmp_path / "run" / str(result.image)) as image:
            assert np.array_equal(np.asarray(image), pixels(number))
            assert image.info.keys() == {"parameters"}
        assert result.torch_seed == result.seed
    grey = pixels(110) @ np.array([0.299, 0.587, 0.114]) / 255
    first = next(r for r in results if (r.prompt, r.seed, r.setting) == (PROMPTS[0], 1, "scale=5"))
    assert first.metrics["contrast"] == pytest.approx(grey.std(), rel=1e-5)


def test_the_same_command_again_changes_nothing(tmp_path: Path) -> None:
    folder = webui_folder(tmp_path / "images")
    import_images([folder], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "images").iterdir()}
    again = import_images([folder], tmp_path / "run")
    assert again.images == 12
    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "images").iterdir()} == before


def test_the_run_may_lie_inside_the_folder_that_it_is_made_of(tmp_path: Path) -> None:
    folder = webui_folder(tmp_path)
    assert import_images([folder], tmp_path / "run").images == import_images([folder], tmp_path / "run").images == 12


def test_several_programs_and_settings_are_one_run_with_what_differs_in_the_names(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_png(tmp_path / "a" / f"{seed}.png", {"parameters": infotext(seed=seed)}, seed)
        write_png(tmp_path / "b" / f"{seed}.png", comfyui_texts(comfyui_graph(seed=seed)), 10 + seed)
    done = import_images([tmp_path / "a", tmp_path / "b"], tmp_path / "run")
    assert (done.images, done.settings, done.pairs) == (4, 2, 2)
    with cl.Store.open(tmp_path / "run") as store:
        experiment = store.experiment
    assert experiment.title == "Images of A1111, ComfyUI"
    names = [setting.name for setting in experiment.settings]
    assert any("sampler=euler" in name and "scale=8" in name for name in names)
    assert any("Schedule type=unknown" in name for name in names)


def test_a_listing_in_the_names_of_diffusers_is_read(tmp_path: Path) -> None:
    rows = []
    for number, (seed, scale) in enumerate([(1, 5), (2, 5), (1, 7.5), (2, 7.5)]):
        write_png(tmp_path / "in" / f"{number}.png", {}, number)
        rows.append(
            {"file_name": f"{number}.png", "prompt": "a cat", "seed": seed, "num_inference_steps": 30}
            | {"guidance_scale": scale, "scheduler": "EulerDiscreteScheduler", "eta": 0.0}
        )
    (tmp_path / "in" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = import_images([tmp_path / "in"], tmp_path / "run")
    assert (done.images, done.settings, done.pairs) == (4, 2, 2)
    with cl.Store.open(tmp_path / "run") as store:
        assert (store.experiment.sampler, store.experiment.steps) == ("EulerDiscreteScheduler", 30)
    (tmp_path / "in" / "metadata.jsonl").unlink()
    header = ",".join(rows[0])
    lines = [header, *(",".join(str(value) for value in row.values()) for row in rows)]
    (tmp_path / "in" / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    assert import_images([tmp_path / "in"], tmp_path / "csv").images == 4


def _two_scales(folder: Path, make: Any) -> set[str]:
    """The names of the configurations of images at the scales 5 and 7 with the texts `make(seed, scale)`."""
    for number, (seed, scale) in enumerate((seed, scale) for seed in (1, 2) for scale in (5.0, 7.0)):
        write_png(folder / "in" / f"{number}.png", make(seed, scale), number)
    import_images([folder / "in"], folder / "run")
    with cl.Store.open(folder / "run") as store:
        return {setting.name for setting in store.experiment.settings}


@pytest.mark.parametrize("field", ["Model hash", "Hashes", "Lora hashes", "TI hashes", "Size", "Parser", "Backend"])
def test_a_field_that_differs_beside_the_scale_is_in_the_names(tmp_path: Path, field: str) -> None:
    def texts(seed: int, scale: float) -> dict[str, str]:
        return {"parameters": infotext(seed=seed, cfg=scale, **{field.replace(" ", "_"): f"v{scale:g}"})}

    assert _two_scales(tmp_path, texts) == {f"scale=5, {field}=v5", f"scale=7, {field}=v7"}


def test_hashes_that_follow_from_the_model_or_the_prompt_are_not_in_the_names(tmp_path: Path) -> None:
    def texts(seed: int, scale: float) -> dict[str, str]:
        more = {"Model": f"m{scale:g}", "Model_hash": f"h{scale:g}", "Lora_hashes": f"x{seed}"}
        return {"parameters": infotext(f"prompt {seed}", seed, scale, **more)}

    assert _two_scales(tmp_path, texts) == {"scale=5, model=m5", "scale=7, model=m7"}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("vae", ({"name": "a"}, {"name": "b"})),
        ("loras", ([{"lora": {"name": "x"}, "weight": 0.5}], [{"lora": {"name": "x"}, "weight": 1.0}])),
        ("model", ({"name": "x", "hash": "aa"}, {"name": "x", "hash": "bb"})),
        ("model", ("sd15/x", "sdxl/x")),
        ("note", ("a" * 500 + "1", "a" * 500 + "2")),
    ],
)
def test_lists_objects_paths_and_long_texts_are_compared_whole(
    tmp_path: Path, field: str, values: tuple[Any, Any]
) -> None:
    names = _two_scales(tmp_path, lambda seed, cfg: invokeai_text(seed, cfg, **{field: values[cfg > 6]}))
    assert len(names) == 2
    assert all("," in name for name in names)


def _changed(node: str, *, at: str | None = None, key: str = "", **inputs: Any) -> Any:
    """A change of a graph: a node of this class with these inputs, linked to the input `key` of the node `at`."""

    def change(graph: dict[str, Any]) -> None:
        graph["50"] = {"class_type": node, "inputs": inputs}
        graph[at or "3"]["inputs"][key] = ["50", 0]

    return change


def _from_image(name: str) -> Any:
    def change(graph: dict[str, Any]) -> None:
        graph["40"] = {"class_type": "LoadImage", "inputs": {"image": name}}
        graph["41"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["40", 0], "vae": ["4", 2]}}
        graph["3"]["inputs"]["latent_image"] = ["41", 0]

    return change


def _two_loras(first: float) -> Any:
    def change(graph: dict[str, Any]) -> None:
        lora = {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "strength_model": first, "model": ["51", 0]}}
        graph["50"] = lora
        graph["51"] = {**lora, "inputs": {"lora_name": "y", "strength_model": 1.0, "model": ["4", 0]}}
        graph["3"]["inputs"]["model"] = ["50", 0]

    return change


_CONTROL = {"positive": ["6", 0], "negative": ["7", 0]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            [_changed("CLIPSetLastLayer", at="6", key="clip", stop_at_clip_layer=n, clip=["4", 1]) for n in (-1, -2)],
            "CLIPSetLastLayer stop_at_clip_layer=-2",
        ),
        ([_changed("VAELoader", at="8", key="vae", vae_name=name) for name in "ab"], "VAELoader vae_name=b"),
        ([_from_image(f"{name}.png") for name in "ab"], "LoadImage image=b.png"),
        ([_two_loras(strength) for strength in (0.5, 1.0)], "LoraLoader strength_model=1"),
        (
            [_changed("ControlNetApplyAdvanced", key="negative", strength=s, **_CONTROL) for s in (0.5, 1.0)],
            "ControlNetApplyAdvanced strength=1",
        ),
        ([_changed("ImageSharpen", at="9", key="images", alpha=a, image=["8", 0]) for a in (1, 2)], "alpha=2"),
        ([_changed("CLIPTextEncodeSDXL", key="positive", text_g="x", width=w) for w in (1, 2)], "width=2"),
    ],
)
def test_every_node_that_leads_into_an_image_of_comfyui_is_compared(
    tmp_path: Path, changes: list[Any], words: str
) -> None:
    def texts(seed: int, scale: float) -> dict[str, str]:
        graph = comfyui_graph(seed=seed, cfg=scale)
        changes[scale > 6](graph)
        return comfyui_texts(graph)

    names = _two_scales(tmp_path, texts)
    assert len(names) == 2
    (name,) = (name for name in names if name.startswith("scale=7"))
    assert words in name


def test_the_negative_prompt_behind_a_control_net_is_its_own(tmp_path: Path) -> None:
    graph = comfyui_graph("a cat")
    _changed("ControlNetApplyAdvanced", key="negative", strength=1.0, **_CONTROL)(graph)
    graph["3"]["inputs"]["positive"] = ["50", 0]
    made = read_generation(write_png(tmp_path / "a.png", comfyui_texts(graph)))
    assert (made.prompt, made.negative) == ("a cat", "bad hands")


def test_values_of_a_node_of_one_value_and_seeds_do_not_make_a_configuration(tmp_path: Path) -> None:
    def texts(seed: int, scale: float) -> dict[str, str]:
        graph = flux_graph(f"prompt {seed}", seed, scale)
        graph["31"] = {"class_type": "PrimitiveInt", "inputs": {"value": seed}}
        graph["25"]["inputs"]["noise_seed"] = ["31", 0]
        graph["32"] = {"class_type": "PrimitiveInt", "inputs": {"value": 1024}}
        graph["5"]["inputs"]["width"] = ["32", 0]
        return comfyui_texts(graph)

    assert _two_scales(tmp_path, texts) == {"FluxGuidance guidance=5", "FluxGuidance guidance=7"}


def test_an_import_that_fails_for_want_of_pairs_says_what_was_left_out(tmp_path: Path) -> None:
    for seed in (1, 2):
        for number in (0, 1):
            write_png(tmp_path / "in" / f"{seed}-{number}.png", {"parameters": infotext(seed=seed)}, 9 * number + seed)
    with pytest.raises(InputError) as caught:
        import_images([tmp_path / "in"], tmp_path / "run")
    assert str(caught.value).startswith("2 images in 1 configuration: ")
    assert "2 images (1-1.png, 2-1.png): has the metadata of another image" in str(caught.value)


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    text = infotext(cfg="7,5", Denoising_strength="0,4")
    made = read_generation(write_png(tmp_path / "a.png", {"parameters": text}))
    assert (str(made.guidance), made.settings["Denoising strength"]) == ("7.5", "0,4")
    with pytest.raises(Unusable, match="guidance scale"):
        read_generation(write_png(tmp_path / "b.png", {"parameters": infotext(cfg="1,2,3")}))


@pytest.mark.parametrize("name", ["train/{}.png", "./train/{}.png", "train\\{}.png"])
def test_a_listing_above_the_folder_of_an_image_is_read(tmp_path: Path, name: str) -> None:
    rows = []
    for number, scale in enumerate((5, 7)):
        write_png(tmp_path / "in" / "train" / f"{number}.png", {}, number)
        rows.append({"file_name": name.format(number), "prompt": "a", "seed": 1, "steps": 9, "guidance": scale})
    (tmp_path / "in" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert import_images([tmp_path / "in"], tmp_path / "run").images == 2


def test_a_guidance_of_the_listing_is_the_setting(tmp_path: Path) -> None:
    rows = []
    for number, text in enumerate(["5", "cosine(max=7.5, min=1)"]):
        write_png(tmp_path / "in" / f"{number}.png", {}, number)
        rows.append({"file_name": f"{number}.png", "prompt": "a", "seed": 1, "steps": 9, "guidance": text})
    (tmp_path / "in" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    import_images([tmp_path / "in"], tmp_path / "run")
    with cl.Store.open(tmp_path / "run") as store:
        assert [str(setting.guidance) for setting in store.experiment.settings] == ["5", "cosine(max=7.5, min=1)"]


def test_what_is_left_out_is_said_with_its_reason(tmp_path: Path) -> None:
    folder = webui_folder(tmp_path / "images")
    later = folder / "later"  # after the others: the first of two images is kept
    write_png(later / "alone.png", {"parameters": infotext("nobody else", 5)}, 7)
    write_png(later / "wide.png", {"parameters": infotext("a cat", 1, 9)}, 7, side=24)
    write_png(later / "copy.png", {"parameters": infotext("a cat", 1, 5)}, 110)
    write_png(later / "odd.png", {"parameters": infotext("a cat", 2, 5)}, 3)
    write_png(later / "grid-1.png", {"parameters": infotext()}, 3)
    write_png(later / "bare.png", {}, 3)
    (later / "note.png").write_text("no image")
    notes = "\n".join(import_images([folder], tmp_path / "run").notes)
    for words in (
        "(alone.png): has a prompt and seed that no other configuration has",
        "(wide.png): is not 16 x 16",
        "(copy.png): is there twice, pixel for pixel",
        "(odd.png): has the metadata of another image and other pixels",
        "(grid-1.png): is a grid of images",
        "(bare.png): carries no metadata of A1111, Forge, SD.Next, ComfyUI or InvokeAI",
        "(note.png): is no image, or a damaged one",
    ):
        assert words in notes
    with cl.Store.open(tmp_path / "run") as store:
        assert len(store.experiment.left_out) == 7
        assert "cfglab did not generate these images" in store.experiment.question


def test_a_run_of_imported_images_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_images([webui_folder(tmp_path / "images")], tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert cli.call(["run", str(tmp_path / "run" / "experiment.yaml"), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "these images were imported from another program" in line
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="carries no cell"):
        cl.reproduce(next((tmp_path / "run" / "images").iterdir()), tmp_path / "copy.png")


def test_a_baseline_is_named_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    folder = webui_folder(tmp_path / "images")
    import_images([folder], tmp_path / "run", baseline="scale=7")
    with cl.Store.open(tmp_path / "run") as store:
        assert store.experiment.baseline.name == "scale=7"
    with pytest.raises(InputError, match="did you mean scale=7"):
        import_images([folder], tmp_path / "other", baseline="scale=70")
    assert not (tmp_path / "other").exists()


def test_unpaired_images_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_png(tmp_path / "in" / f"{seed}.png", {"parameters": infotext(seed=seed, cfg=4 + seed)}, seed)
    with pytest.raises(InputError, match="no prompt and seed is in two of them"):
        import_images([tmp_path / "in"], tmp_path / "run")
    done = import_images([tmp_path / "in"], tmp_path / "run", unpaired=True)
    assert (done.images, done.settings, done.pairs) == (2, 2, 2)


def test_negative_prompts_are_a_setting_unless_each_prompt_has_its_own(tmp_path: Path) -> None:
    for number, negative in enumerate(["blurry", "dark"]):
        text = infotext().replace("blurry, low quality", negative)
        write_png(tmp_path / "a" / f"{number}.png", {"parameters": text}, number)
    import_images([tmp_path / "a"], tmp_path / "one")
    with cl.Store.open(tmp_path / "one") as store:
        names = {setting.name for setting in store.experiment.settings}
    assert names == {"negative prompt=blurry", "negative prompt=dark"}
    for number, (prompt, negative) in enumerate([("a", "x"), ("b", "y")]):
        for cfg in (5, 7):
            text = infotext(prompt, 1, cfg).replace("blurry, low quality", negative)
            write_png(tmp_path / "b" / f"{number}-{cfg}.png", {"parameters": text}, 10 * number + cfg)
    import_images([tmp_path / "b"], tmp_path / "two")
    with cl.Store.open(tmp_path / "two") as store:
        assert {setting.name for setting in store.experiment.settings} == {"scale=5", "scale=7"}
        assert "Negative prompts differ" in store.experiment.question


# -- hostile metadata


def graph_with(node: str, **inputs: Any) -> dict[str, str]:
    graph = comfyui_graph()
    graph[node]["inputs"] |= inputs
    return comfyui_texts(graph)


RING = comfyui_graph()
RING["3"]["inputs"]["positive"] = ["20", 0]
RING |= {
    "20": {"class_type": "ConditioningSetArea", "inputs": {"conditioning": ["21", 0]}},
    "21": {"class_type": "ConditioningSetArea", "inputs": {"conditioning": ["22", 0]}},
    "22": {"class_type": "ConditioningSetArea", "inputs": {"conditioning": ["21", 0]}},
}
"""Behind the sampler, two nodes that each take the other's output."""


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"parameters": infotext(seed=-1)}, "whole number"),
        ({"parameters": infotext(seed=2**64)}, "whole number"),
        ({"parameters": infotext(cfg="nan")}, "guidance scale"),
        ({"parameters": infotext(cfg="1e999")}, "guidance scale"),
        ({"parameters": infotext(cfg="__import__('os').system('true')")}, "guidance scale"),
        ({"parameters": infotext(CFG_scale=None)}, "records no guidance scale"),
        ({"parameters": infotext(Steps=0)}, "number of steps"),
        ({"parameters": infotext(Steps="9" * 50)}, "number of steps"),
        ({"parameters": infotext("@/etc/passwd")}, "begins with @"),
        ({"parameters": infotext("a" * 10_001)}, "10,001 characters"),
        ({"prompt": "{"}, "no readable JSON"),
        ({"prompt": "[" * 100_000}, "no readable JSON"),
        ({"prompt": "[]"}, "no graph of nodes"),
        ({"prompt": json.dumps({"1": [], "2": {"inputs": 3, "class_type": "KSampler"}})}, "without a sampler node"),
        (graph_with("3", seed=["3", 0]), "records no seed"),
        (graph_with("3", cfg=["8", 0], model=["3", 0]), "records no guidance scale"),
        (graph_with("3", positive=["9", 0]), "records no prompt"),
        (comfyui_texts(RING), "records no prompt"),
        (graph_with("3", cfg=True), "guidance scale"),
        ({"invokeai_metadata": "[]"}, "no object"),
        ({"invokeai_metadata": json.dumps({"positive_prompt": "a"})}, "records no"),
        (invokeai_text(cfg=[float("1e300")] * 3, seed="x"), "whole number"),
    ],
)
def test_metadata_that_cannot_be_true_is_left_out_in_one_line(
    tmp_path: Path, texts: dict[str, str], words: str
) -> None:
    path = write_png(tmp_path / "in" / "a.png", texts)
    with pytest.raises(Unusable, match=words) as caught:
        read_generation(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no image can be used"):
        import_images([tmp_path / "in"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bombs_and_torn_files_are_left_out_in_one_line(tmp_path: Path) -> None:
    bomb = zlib.compress(b"a" * 3_000_000)
    with_chunk(write_png(tmp_path / "zip.png", {}), b"zTXt", b"parameters\0\0" + bomb)
    with_chunk(write_png(tmp_path / "long.png", {}), b"tEXt", b"parameters\0" + b"a" * 1_100_000)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "wide.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
    torn = write_png(tmp_path / "torn.png", {"parameters": infotext()})
    torn.write_bytes(torn.read_bytes()[:-30])
    (tmp_path / "jpeg.jpg").write_bytes(b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0MM\0*" + b"\xff" * 100)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(Unusable) as caught:
            read_generation(path)
        assert "\n" not in str(caught.value)


def test_terminal_codes_and_markup_are_shown_as_text_and_never_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "<script>alert(1)</script>\x1b]0;owned\x07 \x9b31m \u202e"
    for cfg in (5, 7):
        text = infotext(nasty, 1, cfg, Sampler=f"<b>{cfg}</b>\x1b[2J", Model="../../evil\x1b[31m")
        write_png(tmp_path / "in" / f"{cfg}.png", {"parameters": text}, cfg)
    write_png(tmp_path / "in" / "\x1b[31mred.png", {})
    assert cli.call(["import", str(tmp_path / "in"), "--out", str(tmp_path / "run"), "-q"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "<b>5</b>" not in page
    assert "\x1b" not in page
    with cl.Store.open(tmp_path / "run") as store:
        assert all("\x1b" not in setting.name for setting in store.experiment.settings)
        assert "/" not in store.experiment.model


def test_lone_surrogates_nul_and_nan_in_json_are_read_without_a_crash(tmp_path: Path) -> None:
    for number, cfg in enumerate((5.0, 7.0)):
        texts = comfyui_texts(comfyui_graph("cat \ud800\u0000 x", 1, cfg))
        texts["prompt"] = texts["prompt"][:-1] + ', "99": {"class_type": "X", "inputs": {"is_changed": NaN}}}'
        write_png(tmp_path / "in" / f"{number}.png", texts, number)
    done = import_images([tmp_path / "in"], tmp_path / "run")
    assert done.images == 2
    with cl.Store.open(tmp_path / "run") as store:
        assert store.experiment.prompts == ("cat \ufffd\ufffd x",)


def test_a_grid_beyond_the_limit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfglab.experiments.importing.importer.IMPORT_CELLS", 11)
    with pytest.raises(InputError, match="2 configurations x 3 prompts x 2 seeds"):
        import_images([webui_folder(tmp_path / "images")], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / "file.png", {})
    with pytest.raises(InputError, match="is no folder; give folders of images"):
        import_images([tmp_path / name], tmp_path / "run")


def test_a_folder_that_holds_something_else_is_not_written_into(tmp_path: Path) -> None:
    folder = webui_folder(tmp_path / "images")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "diary.txt").write_text("mine")
    with pytest.raises(InputError):
        import_images([folder], tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["diary.txt"]


def test_a_generation_is_a_value() -> None:
    values: dict[str, Any] = {"prompt": "a", "negative": "", "seed": 1, "steps": 2, "guidance": cl.Guidance(7)}
    assert Generation("x", **values) == Generation("x", **values)
