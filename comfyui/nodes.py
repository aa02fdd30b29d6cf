"""The nodes, in ComfyUI's V3 schema. Each is stateless and thin: the work is in cfglab."""

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from comfy_api.latest import io

from cfglab import Guidance, InputError, SigmaSteps, Step, Table, as_schedule, limits, steps
from cfglab.file_input import read_text

from .guided_model import GuidedModel, noise_path
from .passes import KEY
from .plots import Panel, plot
from .scenes import load_scenes
from .texts import fault_of, guidances_of

CATEGORY = "cfglab"
DEFAULT = "cosine(max=7.5, min=1, k=0.3)"
FURTHER = ("prompt_1", "prompt_2", "prompt_3")


def _guidance_text(multiple: bool = False) -> Any:
    return io.String.Input(
        "guidances" if multiple else "guidance",
        multiline=True,
        dynamic_prompts=False,
        default=f"7.5\n{DEFAULT}\n{DEFAULT} | apg()" if multiple else DEFAULT,
        tooltip="One guidance a line." if multiple else "A schedule, then methods, each after a bar: 7.5 | apg()",
    )


def _further_inputs() -> list[Any]:
    return [
        *(
            io.Conditioning.Input(
                name, optional=True, tooltip="A further prompt, in the order of the text (Perp-Neg, NAG)"
            )
            for name in FURTHER
        ),
        io.Model.Input("weak_model", optional=True, tooltip="The weaker model of autoguidance(w=2, model=weak)"),
        io.Boolean.Input(
            "first",
            default=False,
            optional=True,
            tooltip="First in the chain: other nodes act on the guided result. Off: exact where there are none.",
        ),
    ]


def _guided(guidances: list[Guidance], model: Any, weak_model: Any = None, first: bool = False, **prompts: Any) -> Any:
    connected = [prompts[name] for name in FURTHER if prompts.get(name) is not None]
    return GuidedModel(guidances, connected, weak_model, first).attach(model)


class GuidanceNode(io.ComfyNode):
    """MODEL with a guidance in place of cfg."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CfglabGuidance",
            display_name="Guidance (cfglab)",
            category=CATEGORY,
            description="Schedules and guidance methods as one text. The cfg of the sampler is not used.",
            inputs=[io.Model.Input("model"), _guidance_text(), *_further_inputs()],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, guidance: str | None = None) -> bool | str:
        return guidance is None or fault_of("CfglabGuidance", guidance) or True

    @classmethod
    def execute(cls, model: Any, guidance: str, **others: Any) -> io.NodeOutput:
        return io.NodeOutput(_guided([Guidance(guidance)], model, **others))


class GuidanceListNode(io.ComfyNode):
    """A batch in which every image has its own guidance, from the same noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CfglabGuidanceList",
            display_name="Guidance list (cfglab)",
            category=CATEGORY,
            description="Several guidances in one sampling: each image of the batch has its own, all the same noise.",
            inputs=[
                io.Model.Input("model"),
                io.Latent.Input("latent"),
                _guidance_text(multiple=True),
                *_further_inputs(),
            ],
            outputs=[io.Model.Output(), io.Latent.Output(), io.Int.Output(display_name="count")],
        )

    @classmethod
    def validate_inputs(cls, guidances: str | None = None) -> bool | str:
        return guidances is None or fault_of("CfglabGuidanceList", guidances) or True

    @classmethod
    def execute(cls, model: Any, latent: dict[str, Any], guidances: str, **others: Any) -> io.NodeOutput:
        listed = guidances_of(guidances)
        samples, count = latent["samples"], len(listed)
        noise = latent.get("batch_index", list(range(len(samples))))
        batch = {**latent, "samples": samples.repeat(count, *[1] * (samples.ndim - 1)), "batch_index": noise * count}
        if (mask := latent.get("noise_mask")) is not None and len(mask) > 1:
            batch["noise_mask"] = mask.repeat(count, *[1] * (mask.ndim - 1))
        return io.NodeOutput(_guided(listed, model, **others), batch, count)


class ScheduleNode(io.ComfyNode):
    """The scale of every step as a list of FLOAT, and its curve."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CfglabSchedule",
            display_name="Schedule (cfglab)",
            category=CATEGORY,
            description="One w a step for nodes that take a list of FLOAT, and the curve over step and sigma.",
            inputs=[
                io.String.Input("schedule", default=DEFAULT, multiline=True, dynamic_prompts=False),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Not used where SIGMAS are connected"),
                io.Sigmas.Input("sigmas", optional=True),
                io.Model.Input("model", optional=True, tooltip="Says what the SIGMAS mean: a flow's are its time"),
            ],
            outputs=[io.Float.Output(display_name="list of w"), io.Image.Output(display_name="curve")],
        )

    @classmethod
    def validate_inputs(cls, schedule: str | None = None) -> bool | str:
        return schedule is None or fault_of("CfglabSchedule", schedule) or True

    @classmethod
    def execute(cls, schedule: str, steps: int, sigmas: Any = None, model: Any = None) -> io.NodeOutput:
        curve, run = as_schedule(schedule), _steps_of(steps, sigmas, model)
        w = [curve(step) for step in run]
        panels: list[Panel] = [("step", range(1, len(run) + 1), "w", {"w": w})]
        levels = [float(step.sigma) for step in run if step.sigma is not None]
        if levels:
            largest = 10 * max((level for level in levels if math.isfinite(level)), default=1.0)
            panels.append(("sigma (noise over signal)", [min(level, largest) for level in levels], "w", {"w": w}))
        return io.NodeOutput(w, plot(*panels))


def _steps_of(count: int, sigmas: Any, model: Any) -> list[Step]:
    if sigmas is None:
        return steps(count)
    if model is None:
        return SigmaSteps(sigmas.tolist()).steps
    path, unit, _ = noise_path(model.get_model_object("model_sampling"))
    return SigmaSteps(sigmas.tolist(), path, unit).steps


class CurveNode(io.ComfyNode):
    """A curve drawn by hand as a schedule."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CfglabCurve",
            display_name="Curve to schedule (cfglab)",
            category=CATEGORY,
            description="A curve over the run, 0 to 1 in both directions, as a schedule between min and max.",
            inputs=[
                io.Custom("CURVE").Input(
                    "curve", optional=True, tooltip="ComfyUI's curve editor, in place of the points"
                ),
                io.String.Input("points", default="0:1, 0.5:0.8, 1:0", tooltip="x:y, straight lines between them"),
                io.Int.Input("steps", default=20, min=1, max=10000),
                io.Float.Input("min", default=1.0, min=-100.0, max=100.0, step=0.1),
                io.Float.Input("max", default=7.5, min=-100.0, max=100.0, step=0.1),
            ],
            outputs=[
                io.String.Output(display_name="schedule"),
                io.Float.Output(display_name="list of w"),
                io.Image.Output(display_name="curve"),
            ],
        )

    @classmethod
    def validate_inputs(cls, points: str | None = None) -> bool | str:
        try:
            return points is None or bool(_heights(points))
        except InputError as error:
            return str(error)

    @classmethod
    def execute(cls, points: str, steps: int, min: float, max: float, curve: Any = None) -> io.NodeOutput:
        height = curve.interp if hasattr(curve, "interp") else _heights(points if curve is None else curve)
        w = [round(min + (max - min) * float(height(step / steps)), 6) for step in range(steps)]
        return io.NodeOutput(str(Table(w)), w, plot(("step", range(1, steps + 1), "w", {"w": w})))


def _heights(curve: Any) -> Callable[[float], float]:
    """Straight lines between points: text x:y, or the (x, y) of a CURVE that comes as its points."""
    try:
        if isinstance(curve, str):
            curve = [part.split(":") for part in curve.split(",")]
        points = sorted((float(x), float(y)) for x, y in (curve["points"] if isinstance(curve, dict) else curve))
        xs, ys = zip(*points, strict=True)
    except (TypeError, ValueError, KeyError):
        raise InputError(f"{str(curve)[:60]!r}: a curve is points x:y, 0 to 1; write 0:1, 0.5:0.8, 1:0.") from None
    return lambda x: float(np.interp(x, xs, ys))


class TraceNode(io.ComfyNode):
    """What the guidance did in the run that made a LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CfglabTrace",
            display_name="Trace (cfglab)",
            category=CATEGORY,
            description="After the sampler: w, the length of cond - uncond, and the rows run and saved, by step.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of the guidance node"),
                io.Latent.Input("latent", tooltip="The LATENT of the sampler, so that the trace is read after it"),
            ],
            outputs=[io.Image.Output(display_name="plot"), io.String.Output(display_name="table")],
        )

    @classmethod
    def execute(cls, model: Any, latent: Any) -> io.NodeOutput:
        guided = model.model_options.get("transformer_options", {}).get(KEY)
        run = None if guided is None else guided.run_of(latent)
        if run is None or not run.trace.steps:
            raise InputError(
                "a MODEL whose guidance has not run: connect the MODEL of the guidance node, and the sampler's LATENT."
            )
        records = run.trace.steps
        calls = range(1, len(records) + 1)
        images = range(len(records[0].w))
        panels: list[Panel] = [
            ("call of the network", calls, name, {f"image {i + 1}": [value(r)[i] for r in records] for i in images})
            for name, value in (
                ("w", lambda r: r.w),
                ("|cond - uncond|", lambda r: [d or math.nan for d in r.difference]),
            )
        ]
        panels.append(("call of the network", calls, "rows run", {"": [record.rows_run for record in records]}))
        return io.NodeOutput(plot(*panels, title=str(run)), f"{run}\n{run.trace.table()}")


class TunedNode(io.ComfyNode):
    """The guidance that `cfglab tune` wrote."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        folder = Path(folder_paths.get_input_directory())
        files = sorted(path.name for path in folder.glob("*.json")) if folder.is_dir() else []
        return io.Schema(
            node_id="CfglabTuned",
            display_name="Tuned guidance (cfglab)",
            category=CATEGORY,
            description="The text of a tuned.json of `cfglab tune`, from ComfyUI's input folder.",
            inputs=[io.Combo.Input("file", options=files)],
            outputs=[io.String.Output(display_name="guidance")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """The content of the file, so that the node runs again when it has changed."""
        path = _in_input_folder(file)
        return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        path = _in_input_folder(file)
        if not path.is_file():
            raise InputError(f"{path.name!r}: no such file in ComfyUI's input folder; copy a tuned.json there.")
        return io.NodeOutput(str(Guidance.from_json(read_text(path, limits.DOCUMENT_BYTES))))


def _in_input_folder(file: str) -> Path:
    return Path(folder_paths.get_input_directory()) / Path(file).name


class ScenesNode(io.ComfyNode):
    """The bundled model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CfglabScenes",
            display_name="Load scenes (cfglab)",
            category=CATEGORY,
            description="The small model bundled with cfglab: nothing is downloaded. Use an empty latent of 128 x 128.",
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_scenes())


NODES: list[type[io.ComfyNode]] = [
    GuidanceNode,
    GuidanceListNode,
    ScheduleNode,
    CurveNode,
    TraceNode,
    TunedNode,
    ScenesNode,
]
