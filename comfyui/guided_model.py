"""A guidance attached to a MODEL: ComfyUI's hooks on one side, cfglab's rows of a batch on the other.

ComfyUI calls the hooks once per denoiser call, in this order: `begin` sets the scale of the step, `calc` runs the
predictions that the step needs, `pre` combines them, `post` gives the result. Everything is a prediction of x0. The
state of a run is one `Run`, made when the sampler starts, held by the options of that run, and gone with them; the
patched MODEL holds no memory.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from typing import Any

import torch
from torch import Tensor

from cfglab import Guidance, Trace
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.errors import InputError
from cfglab.guidance import Perturbation, Space
from cfglab.guidance.context import runs
from cfglab.guidance.methods.weak_prediction import later_passes
from cfglab.guidance.perturbations.weak_models import WeakModelPass
from cfglab.hosts import SigmaSteps
from cfglab.hosts.capabilities import perturbed_passes

from .passes import KEY, check_pass, check_prompts, host_of, prompt_key, refuse_shared_weights, run_pass, weak_models_of
from .step_noise import same_noise_of_steps

OF_ROWS = ("calc_cond_batch", "diffusion_model")
"""ComfyUI's kinds of wrappers that see the rows of a call, and may remember them until the next one, as caches do."""
CLOSE_TO_1 = 0.5
"""A scale so close to 1 leaves the unconditional prediction too little weight to carry the guidance."""


KEPT_RUNS = 8
"""Runs of a MODEL whose traces are kept."""


@dataclass
class PastRun:
    """What is kept of a run.

    Attributes:
        number: The number of the run of this MODEL, from 1.
        sampler: ComfyUI's name of the sampler.
        steps: The number of steps.
        trace: What the guidance did.
        latent: The digest of its samples; None before its end.
    """

    number: int
    sampler: str
    steps: int
    trace: Trace
    latent: str | None = None

    def __str__(self) -> str:
        return f"run {self.number} of this MODEL: {self.sampler}, {self.steps} step{'s' * (self.steps > 1)}"


def digest_of(samples: Any) -> str | None:
    """A digest of samples, by which a LATENT is found again on any device; None for what is no tensor."""
    if not isinstance(samples, Tensor):
        return None
    values = samples.detach().float().cpu().contiguous()
    return sha256(str(tuple(values.shape)).encode() + values.numpy().tobytes()).hexdigest()


class GuidedModel:
    """A guidance for a MODEL, or one for each image of a batch, with what its passes need. It never changes.

    Args:
        guidances: One guidance, or n of them for a batch of n or a multiple of n images.
        prompts: CONDITIONING of the further prompts, in the order in which the guidances name them.
        weak: The MODEL that autoguidance goes away from.
        first: Always pass the guidance on as a pair of predictions, so that all other nodes act on its result.
    """

    def __init__(
        self, guidances: Sequence[Guidance], prompts: Sequence[Any] = (), weak: Any = None, first: bool = False
    ) -> None:
        self.guidances, self.prompts, self.weak, self.first = tuple(guidances), tuple(prompts), weak, first
        self.texts: list[str] = []
        self.runs: deque[PastRun] = deque(maxlen=KEPT_RUNS)
        """The last runs that were started: numbers alone."""
        self._started = count(1)

    def __deepcopy__(self, memo: Any) -> "GuidedModel":
        """ComfyUI copies the options of a MODEL with every clone; the Trace node looks at the first one."""
        return self

    def attach(self, model: Any) -> Any:
        """A clone of a MODEL with this guidance.

        Raises:
            InputError: The MODEL has a guidance, its noise path is unknown, or it cannot run a pass of the guidance.
        """
        from comfy.patcher_extension import WrappersMP

        if not hasattr(WrappersMP, "PREDICT_NOISE"):
            raise InputError(
                "this version of ComfyUI has no wrapper of a prediction (PREDICT_NOISE), in which the scale of a step "
                "is set: the pack needs 0.3.56 or later; update ComfyUI."
            )
        patched = model.clone()
        options = patched.model_options
        if KEY in options.setdefault("transformer_options", {}):
            raise InputError("this MODEL already has a guidance: a run has one; connect the MODEL from before it.")
        path, *_ = noise_path(patched.get_model_object("model_sampling"))
        refuse_shared_weights(patched, [] if self.weak is None else [self.weak])
        host = host_of(patched.model.diffusion_model, self.weak is not None)
        self.texts = list(dict.fromkeys(text for one in self.guidances for text in host.check(one, path)))
        if len(self.texts) != len(self.prompts):
            named = ", ".join(map(repr, self.texts)) or "none"
            raise InputError(
                f"{len(self.texts)} further prompts in the guidance ({named}) and {len(self.prompts)} connected: "
                "connect one CONDITIONING for each, in this order, to prompt_1, prompt_2, prompt_3."
            )
        passes = [each for one in self.guidances for each in perturbed_passes(one, path)]
        check_prompts(dict(zip(self.texts, self.prompts, strict=True)), passes)
        if self.weak is not None and not any(isinstance(wanted, WeakModelPass) for _, wanted in passes):
            raise InputError(
                "weak_model is connected and no method of the guidance uses it: write autoguidance(w=2, model=weak) "
                "after a bar, or disconnect it."
            )
        previous = options.get("sampler_calc_cond_batch_function")
        patched.set_model_sampler_calc_cond_batch_function(lambda args: _run(args).calc(args, previous))
        patched.set_model_sampler_pre_cfg_function(self._pre, disable_cfg1_optimization=True)
        options["sampler_post_cfg_function"] = [self._post, *options.get("sampler_post_cfg_function", [])]
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, self._start)
        patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self._sample)
        patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, self._predict)
        if self.weak is not None:
            patched.set_additional_models(KEY, [self.weak])
        options["transformer_options"][KEY] = self
        return patched

    @property
    def trace(self) -> Trace | None:
        """The trace of the last run that was started."""
        return self.runs[-1].trace if self.runs else None

    def run_of(self, latent: Any) -> "PastRun | None":
        """The run that a LATENT is from.

        Args:
            latent: The LATENT.

        Returns:
            The newest run that gave these samples; the last one where it is none of those that are kept.
        """
        samples = latent.get("samples") if isinstance(latent, dict) else None
        digest = digest_of(samples)
        candidates = [run for run in self.runs if digest is not None and run.latent == digest] or list(self.runs)
        return candidates[-1] if candidates else None

    def _start(
        self, executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *args: Any, **kw: Any
    ) -> Any:
        """Wraps one run of a sampler: the further prompts become conditions of the guider, as its own are."""
        from comfy.sampler_helpers import convert_cond

        guider = executor.class_obj
        refuse_shared_weights(guider.model_patcher, weak_models_of(guider))  # a LoRA node may stand behind the guidance
        guider.conds |= {prompt_key(text): convert_cond(c) for text, c in zip(self.texts, self.prompts, strict=True)}
        run = guider.model_options["transformer_options"][KEY] = Run(self, guider, sampler, sigmas)
        past = PastRun(next(self._started), name_of(sampler), len(run.steps.steps), run.trace)
        self.runs.append(past)
        samples = executor(noise, latent, sampler, sigmas, *args, **kw)
        past.latent = digest_of(samples)
        return samples

    def _sample(
        self,
        executor: Any,
        guider: Any,
        sigmas: Tensor,
        options: dict[str, Any],
        callback: Any,
        noise: Tensor,
        *args: Any,
        **kw: Any,
    ) -> Any:
        """Wraps the sampler of one run, when all models are loaded: the second MODEL is prepared as the first one."""
        with ExitStack() as stack:
            for weak in weak_models_of(guider):
                stack.callback(weak.cleanup)
                weak.pre_run()
            sampler, seed = executor.class_obj, options.get("seed")
            stack.enter_context(same_noise_of_steps(sampler, len(self.guidances), sigmas, noise, seed))
            return executor(guider, sigmas, options, callback, noise, *args, **kw)

    def _predict(self, executor: Any, x: Tensor, sigma: Tensor, options: dict[str, Any], *args: Any, **kw: Any) -> Any:
        """Wraps one denoiser call: the guider's cfg, which the formula and other nodes read, is the w of this step."""
        guider, own = executor.class_obj, executor.class_obj.cfg
        guider.cfg = _run({"model_options": options}).begin(x, sigma)
        try:
            return executor(x, sigma, options, *args, **kw)
        finally:
            guider.cfg = own

    def _pre(self, args: dict[str, Any]) -> list[Tensor]:
        return _run(args).pre(args, self._pre)

    def _post(self, args: dict[str, Any]) -> Tensor:
        return _run(args).post(args)


class Run:
    """One run of a sampler: its steps, its guides, and the predictions of the call that is under way."""

    def __init__(self, model: GuidedModel, guider: Any, sampler: Any, sigmas: Tensor) -> None:
        sampling = guider.model_patcher.get_model_object("model_sampling")
        path, unit, self.prediction = noise_path(sampling)
        self.steps = SigmaSteps(
            sigmas.tolist(),
            path,
            unit,
            sigma_data=float(getattr(sampling, "sigma_data", 1.0)),
            timestep=lambda sigma: float(sampling.timestep(torch.tensor(sigma))),
        )
        self.model, self.guider, self.trace = model, guider, Trace()
        self.indices = iter(steps_of_calls(name_of(sampler), len(self.steps.steps)))
        self.rows: GuidedRows | None = None
        self.ran: dict[Perturbation, Tensor] | None = None
        """The perturbed passes of this call; None before `calc`."""
        self.rows_run = 0
        self.result: Tensor | None = None
        """What `post` returns; None if the pair of `pre` carries the guidance."""
        self.combined = False

    # -- the hooks -----------------------------------------------------------------------------------------------------

    def begin(self, x: Tensor, sigma: Tensor) -> float:
        """Start a denoiser call.

        Args:
            x: The sample, (n, ...).
            sigma: The noise level, (n,).

        Returns:
            The w of this step; the largest one where the images have several.
        """
        index, level = next(self.indices, None), float(sigma[0])
        self.step = self.steps.at(level) if index is None else self.steps.evaluated(index, level)
        if self.rows is None:
            self.rows = GuidedRows(self._per_image(len(x)), "x0", model=self.prediction)
            for wanted in later_passes(self.model.guidances, self.step):
                check_pass(wanted, self.guider.model_patcher.model.diffusion_model)
        self.ran, self.combined, self.result, self.rows_run = None, False, None, 0
        self.needed = self.rows.needed_rows(self.step)
        return max(self.rows.scales(self.step))

    def calc(self, args: dict[str, Any], previous: Callable[[dict[str, Any]], list[Tensor]] | None) -> list[Tensor]:
        """The predictions [cond, uncond]; one that nobody needs is a copy of the other."""
        x, (cond, uncond), options = args["input"], args["conds"], args["model_options"]
        images, needed = len(x), self.needed
        everything = self._others_look(options)
        with_uncond = everything or any(row < images for row in needed[None])
        with_cond = everything or any(row >= images for row in needed[None])
        if uncond is None and with_uncond and not any(row < images for row in needed[None]):
            with_uncond = False  # BasicGuider has none, and only other nodes would look at it
        conds = [cond if with_cond else None, self._existing(uncond) if with_uncond else None]
        if previous is not None:
            out = list(previous({**args, "conds": conds}))
        elif any(condition is not None for condition in conds):
            out = list(_calc_cond_batch(args["model"], conds, x, args["sigma"], options))
        else:
            out = [torch.zeros_like(x), torch.zeros_like(x)]
        self._run_passes(args)
        self.rows_run += images * (with_cond + with_uncond)
        if with_cond != with_uncond:
            out[:2] = [out[0 if with_cond else 1]] * 2
        return out

    def pre(self, args: dict[str, Any], own: Any) -> list[Tensor]:
        """The guided prediction of this call; the pair is as before, or carries the guidance to other nodes.

        Other nodes read the pair and the w of the step. It is the pair of the network where u + w (c - u) is the guided
        prediction; otherwise one of the two is changed such that it is.
        """
        cond, uncond, *more = args["conds_out"]
        if more:
            raise InputError(
                f"a guider that combines {len(args['conds_out'])} predictions: a guidance combines two and further "
                "prompts of its own; use KSampler or CFGGuider, and perp_neg(prompt=…) in the text."
            )
        if self.ran is None:  # another node has replaced calc
            self._run_passes(args)
            self.rows_run += 2 * len(args["input"])
        guided = self._combined(cond, uncond, args)
        self.combined, options = True, args["model_options"]
        after = options["sampler_pre_cfg_function"][-1] != own or "sampler_cfg_function" in options
        if not (after or self.model.first):
            self.result = guided
            return [cond, uncond]
        scale = args["cond_scale"]
        if torch.equal(uncond + (cond - uncond) * scale, guided):
            return [cond, uncond]
        if abs(scale - 1) < CLOSE_TO_1:
            return [guided if scale == 1 else uncond + (guided - uncond) / scale, uncond]
        return [cond, (scale * cond - guided) / (scale - 1)]

    def post(self, args: dict[str, Any]) -> Tensor:
        """The guided prediction, before any other node changes it."""
        if not self.combined:  # a guider that calls neither calc nor pre: DualCFGGuider
            args = {**args, "conds": [args["cond"], args["uncond"]]}
            self._run_passes(args)
            self.rows_run += 2 * len(args["input"])
            self.result = self._combined(args["cond_denoised"], args["uncond_denoised"], args)
        guided, self.result, self.combined = self.result, None, False
        return args["denoised"] if guided is None else guided

    # -- one call ------------------------------------------------------------------------------------------------------

    def _per_image(self, images: int) -> list[Guidance]:
        guidances = self.model.guidances
        number = len(guidances)
        if images % number:
            raise InputError(
                f"{number} guidances for a batch of {images}: every image has one; make a batch of {number}, or "
                "connect the LATENT of the guidance list."
            )
        return [guidances[image * number // images] for image in range(images)]

    def _run_passes(self, args: dict[str, Any]) -> None:
        self.ran = {}
        for wanted in self.needed:
            if wanted is not None:
                cond, uncond = args["conds"]
                own = cond if wanted.source == "cond" else self._existing(uncond)
                self.ran[wanted] = run_pass(wanted, own, self.guider, args)
                self.rows_run += len(args["input"]) * runs(wanted)

    def _combined(self, cond: Tensor, uncond: Tensor, args: dict[str, Any]) -> Tensor:
        ran, pair, images = self.ran or {}, torch.cat([uncond, cond]), len(cond)

        def rows_of(rows: list[int] | None, wanted: Perturbation | None) -> Tensor:
            if wanted is not None:
                return ran[wanted] if rows is None else ran[wanted][[row % images for row in rows]]
            return pair if rows is None else pair[rows]

        seen = self.steps.network_input(args["input"], self.step)
        assert self.rows is not None
        guided, record = self.rows.predict(self.step, torch.cat([seen, seen]), (), rows_of, separate=True)
        total = record.rows_run + record.rows_saved
        self.trace.steps.append(replace(record, rows_run=self.rows_run, rows_saved=total - self.rows_run))
        self.ran = None
        return guided

    def _others_look(self, options: dict[str, Any]) -> bool:
        """Whether other nodes, a cache or the sampler see both predictions, so that both have to be run."""
        pre, post = options["sampler_pre_cfg_function"], options["sampler_post_cfg_function"]
        transformer = options["transformer_options"]
        wrappers = transformer.get("wrappers", {})
        around = any(wraps for kind in OF_ROWS for wraps in wrappers.get(kind, {}).values())
        return (
            around or "easycache" in transformer or len(pre) > 1 or len(post) > 1 or "sampler_cfg_function" in options
        )

    def _existing(self, uncond: Any) -> Any:
        if uncond is None:
            raise InputError(
                f"no negative CONDITIONING at step {self.step.index + 1}: BasicGuider has none, and the guidance needs "
                "it there; use KSampler or CFGGuider, or a guidance of w = 1 such as '1 | pag()'."
            )
        return uncond


CALLS_OF_A_STEP = {"heun": 2, "heunpp2": 3}
"""Samplers of ComfyUI that evaluate at the noise levels of later steps, and how often in a step."""


def name_of(sampler: Any) -> str:
    """ComfyUI's name of a sampler: euler, dpmpp_2m; the class of one that is no function."""
    function = getattr(sampler, "sampler_function", None)
    return getattr(function, "__name__", type(sampler).__name__).removeprefix("sample_")


def steps_of_calls(sampler: str, steps: int) -> list[int]:
    """The step of every denoiser call, for a sampler whose calls are not at the noise levels of their steps.

    Args:
        sampler: ComfyUI's name of it.
        steps: The number of steps.

    Returns:
        The number of the step of each call; empty where the noise level of a call says its step.

    Examples:
        >>> steps_of_calls("heunpp2", 4), steps_of_calls("euler", 4)
        ([0, 0, 0, 1, 1, 1, 2, 2, 3], [])
    """
    calls = CALLS_OF_A_STEP.get(sampler, 0)
    in_step = [min(calls, steps - step) if sampler == "heunpp2" else calls for step in range(steps)]
    return [step for step, number in enumerate(in_step) for _ in range(number)]


PATHS: dict[str, tuple[Any, Any, Space] | None] = {
    "IMG_TO_IMG": None,
    "COSMOS_RFLOW": ("flow", "sigma", "flow"),
    "CONST": ("flow", "t", "flow"),
    "X0": ("vp", "sigma", "x0"),
    "EDM": ("vp", "sigma", "model"),
    "V_PREDICTION": ("vp", "sigma", "v"),
    "EPS": ("vp", "sigma", "epsilon"),
}
"""ComfyUI's classes of model sampling, each before those that it is derived from: path, unit, what is predicted."""


def noise_path(sampling: Any) -> tuple[Any, Any, Space]:
    """The path and the unit of sigma of a ComfyUI model, and what its network predicts.

    Args:
        sampling: The `model_sampling` of a MODEL.

    Returns:
        Path and unit as in `SigmaSteps`, and a parameterization; "model" where it is none of the known ones.

    Raises:
        InputError: The class of model sampling scales its input in a way that is not known here.
    """
    import comfy.model_sampling

    for name, rule in PATHS.items():
        kind = getattr(comfy.model_sampling, name, None)
        if rule is not None and kind is not None and isinstance(sampling, kind):
            path, unit, prediction = rule
            return (path, unit, prediction) if getattr(sampling, "sigma_data", 1.0) == 1 else (path, unit, "model")
        if kind is not None and isinstance(sampling, kind):
            break
    classes = ", ".join(base.__name__ for base in type(sampling).__mro__ if base.__name__ not in ("Module", "object"))
    raise InputError(
        f"a MODEL with the sampling {classes}: how it scales its input is not known, so a guidance would get a wrong "
        "sigma; use a model of the kinds EPS, V_PREDICTION, EDM, CONST or COSMOS_RFLOW."
    )


def _run(args: dict[str, Any]) -> Run:
    """The run that a hook was called in."""
    run = args["model_options"]["transformer_options"].get(KEY)
    if not isinstance(run, Run):
        raise InputError(
            "a guided MODEL in a sampler that starts no guider: its steps are not known; use KSampler, SamplerCustom "
            "or SamplerCustomAdvanced."
        )
    return run


def _calc_cond_batch(*args: Any) -> list[Tensor]:
    import comfy.samplers

    return comfy.samplers.calc_cond_batch(*args)
