"""A cell: one image to make, and the facts about a model that its identity needs. Loads no torch."""

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from cfglab.errors import InputError
from cfglab.experiments.backends.mixture import facts, is_mixture
from cfglab.experiments.spec.content_hash import ContentHashed
from cfglab.experiments.spec.experiment import IMPORTED, Experiment, Setting
from cfglab.guidance import Guidance
from cfglab.pipelines.loading.configuration import read_configuration
from cfglab.pipelines.loading.model_folder import locate, weights_hash
from cfglab.schedules.fields import shown


class Cell(ContentHashed):
    """One image to generate. The fields hold everything that it depends on except the versions and the device.

    Versions and the device are recorded separately. The `id` is the name of the cell.

    Attributes:
        model: the model name.
        weights: the hash of the model folder.
        prompt: the prompt.
        negative: the negative prompt.
        seed: the seed of torch's generator for the starting noise.
        steps: sampling steps.
        width: image width in pixels.
        height: image height in pixels.
        sampler: the name of the sampler.
        sampler_config: the scheduler configuration of the model.
        dtype: the dtype of the model.
        compile: whether the denoiser runs through torch.compile.
        guidance: the Guidance.
    """

    model: str
    weights: str
    prompt: str
    negative: str
    seed: int
    steps: int
    width: int
    height: int
    sampler: str
    sampler_config: dict[str, Any]
    dtype: str
    compile: bool = False
    guidance: Guidance

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `compile` where it is off: cells of before there was such a field keep their id."""
        content: dict[str, Any] = write(self)
        return content if self.compile else {name: value for name, value in content.items() if name != "compile"}


class ModelFacts(BaseModel):
    """What a cell takes from the model's folder: the weights' hash, the scheduler's config, the size of an image.

    `factor` is pixels per latent along a side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    sampler_config: dict[str, Any]
    width: int
    height: int
    factor: int


def cells(experiment: Experiment, model: ModelFacts | None = None) -> list[tuple[Setting, Cell]]:
    """Every cell of an experiment with its setting: settings, then prompts, then seeds.

    Raises InputError for a size that the model cannot draw.
    """
    model = model or model_facts(experiment.model)
    prompts = [prompt for prompt in experiment.prompts for _ in experiment.seeds]
    noises = experiment.torch_seeds()
    width, height = experiment.width or model.width, experiment.height or model.height
    for name, size in (("width", width), ("height", height)):
        if size % model.factor:
            raise InputError(f"{name} {size}: {experiment.model} draws multiples of {model.factor}; change {name}.")
    return [
        (
            setting,
            Cell(
                model=experiment.model,
                weights=model.weights,
                prompt=prompt,
                negative=experiment.negative,
                seed=noise,
                steps=experiment.steps,
                width=width,
                height=height,
                sampler=experiment.sampler,
                sampler_config=model.sampler_config,
                dtype=experiment.dtype,
                compile=experiment.compile,
                guidance=setting.guidance,
            ),
        )
        for setting in experiment.settings
        for prompt, noise in zip(prompts, noises, strict=True)
    ]


def model_facts(
    name: str, revision: str | None = None, allow_pickle: bool = False, allow_download: bool = True
) -> ModelFacts:
    """Read the facts from a model's folder: `scenes`, a folder, or a hub id (fetched where it is not there yet, if that
    is allowed); of a mixture, `mixture:tree`, from its definition."""
    if name.startswith(IMPORTED):
        raise InputError(
            f"model {shown(name)}: these images were imported from another program, which cfglab does not run; name a "
            "model that is here, or look at the run with cfglab report and cfglab compare."
        )
    if is_mixture(name):
        return ModelFacts(**facts(name))
    folder = locate(name, revision, allow_pickle, allow_download)
    model = read_configuration(folder)
    return ModelFacts(
        weights=weights_hash(folder),
        sampler_config={key: value for key, value in model.scheduler.items() if key != "_diffusers_version"},
        width=model.latent_width * model.factor,
        height=model.latent_height * model.factor,
        factor=model.factor,
    )
