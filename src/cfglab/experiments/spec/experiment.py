"""An experiment: a baseline and settings, each with every prompt and seed. A frozen value; loads no torch."""

from collections.abc import Callable, Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler

from cfglab.errors import InputError, NotMatchable
from cfglab.experiments.spec.arguments import Arguments
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.content_hash import ContentHashed
from cfglab.experiments.spec.cost import Cost, cost_of
from cfglab.experiments.spec.document import (
    Document,
    ExcludedSettings,
    check,
    check_steps,
    expand_grid,
    one_line,
    read_yaml,
    with_files,
)
from cfglab.experiments.spec.models import IMPORTED, IN_MEMORY, ModelFacts, model_facts
from cfglab.experiments.spec.overrides import changed
from cfglab.experiments.spec.overrides import read_assignments as read_assignments
from cfglab.experiments.spec.prompts import check_distinct, read_seeds, write_seeds
from cfglab.experiments.spec.prompts import read_prompts as read_prompts
from cfglab.experiments.spec.setting import (
    Setting,
    check_candidate_noises,
    check_schedule,
    read_setting,
    written_setting,
)
from cfglab.experiments.spec.starting_noise import Noise, torch_seed
from cfglab.pipelines.loading.samplers import OWN, SAMPLERS, TWICE
from cfglab.schedules.fields import nearest, shown
from cfglab.yaml_text import write_yaml


class Experiment(ContentHashed):
    """A set of cells: every setting with every prompt and seed.

    The `id` is a hash of all fields except the title and the question. It does not depend on the device or on the
    weights of the model; a run records the weights.

    Attributes:
        name: the name of the experiment.
        title: a title for reports.
        question: the question that the experiment answers.
        model: "scenes", "scenes-flow", the path of a model folder, a hub id or a mixture; "imported:NAME" in a run of
            imported images, "memory:NAME" in a run of a pipeline in memory.
        prompts: distinct prompts, at least one.
        negative: the negative prompt of all cells.
        seeds: distinct seeds, at least one.
        noise: the design of the starting noises (see `torch_seed`). "nested": each prompt has its own noises.
            "crossed": all prompts share the noises of a seed; stored experiments without this field are crossed.
        prompt_offset: the position of the first prompt if the prompts are a part of a longer list, 0 or more. The part
            then has the same noises as in the whole list.
        steps: sampling steps.
        sampler: a name in SAMPLERS, or "own", the scheduler that the model comes with; for a pipeline in memory the
            class of its scheduler.
        width: image width in pixels, a multiple of 8; None is the width of the model.
        height: image height in pixels, a multiple of 8; None is the height of the model.
        dtype: the dtype of the model.
        compile: run the denoiser through torch.compile.
        arguments: further arguments of the pipeline's call, the same for every image, such as
            `{max_sequence_length: 77}`.
        baseline: the setting that all others are compared with.
        settings: all settings, the baseline first.
        left_out: settings that are not run, each with the reason.

    Raises:
        InputError: in one line, if a field is not valid.
    """

    unnamed: ClassVar[frozenset[str]] = frozenset({"title", "question"})

    name: str
    title: str = ""
    question: str = ""
    model: str = "scenes"
    prompts: tuple[str, ...]
    negative: str = ""
    seeds: tuple[int, ...]
    noise: Noise = "nested"
    prompt_offset: int = 0
    steps: int = 50
    sampler: str = "lms"
    width: int | None = None
    height: int | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    compile: bool = False
    arguments: Arguments = Field(default_factory=dict)
    baseline: Setting
    settings: tuple[Setting, ...]
    left_out: tuple[ExcludedSettings, ...] = ()

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InputError(one_line(error, Experiment)) from None

    @field_validator("seeds", mode="before")
    @classmethod
    def _are_seeds(cls, value: Any) -> Any:
        return read_seeds(value)

    @model_validator(mode="wrap")
    @classmethod
    def _stored_before(cls, value: Any, check: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """JSON is what a store keeps: where it has no `noise` the run was drawn with crossed noises."""
        if info.mode == "json" and isinstance(value, dict) and "noise" not in value:
            value = {**value, "noise": "crossed"}
        return check(value)

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the fields that older experiments lack, where the value is what those had: their id stays."""
        before = {"noise": "crossed", "prompt_offset": 0, "arguments": {}}
        return {name: value for name, value in write(self).items() if before.get(name, self) != value}

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_steps(self.steps)
        if self.prompt_offset < 0:
            raise InputError(f"prompt_offset {self.prompt_offset}: a position is 0 or more; leave it out.")
        if file_name := next((prompt for prompt in self.prompts if prompt.startswith("@")), None):
            raise InputError(
                f"prompts {shown(file_name)}: @ names a file of prompts, which is read from a command line or a YAML "
                "file; give its prompts, or read_prompts([…])."
            )
        if self.sampler not in (OWN, *SAMPLERS) and not self.imported and not self.in_memory:
            hint = nearest(self.sampler, SAMPLERS) or " name one."
            raise InputError(f"sampler {self.sampler!r}: there are {', '.join((OWN, *SAMPLERS))};{hint}")
        for name, size in (("width", self.width), ("height", self.height)):
            if size is not None and (size < 8 or size % 8) and not self.imported:
                raise InputError(f"{name} {size}: a size is a multiple of 8; leave it out for the model's own.")
        for name, values in (("prompts", self.prompts), ("seeds", self.seeds)):
            check_distinct(name, values)
        check_distinct("settings", [setting.name for setting in self.settings])
        if "real" in (setting.name for setting in self.settings):
            raise InputError("setting 'real': results keep that name for real images; choose another.")
        if not self.settings or self.settings[0] != self.baseline:
            raise InputError(f"settings of {self.name!r}: the baseline is the first of them; put it there.")
        for setting in self.settings:
            check_schedule(setting, self.steps)
            check_candidate_noises(setting, self.noise, len(self.prompts))
        return self

    @property
    def imported(self) -> bool:
        """Whether the images were generated by another program (`cfglab import`): nothing here can make them again."""
        return self.model.startswith(IMPORTED)

    @property
    def in_memory(self) -> bool:
        """Whether the images are those of a pipeline in memory (`run(…, pipe=…)`): no name finds this model again."""
        return self.model.startswith(IN_MEMORY)

    @classmethod
    def preset(
        cls,
        name: str,
        *,
        set: Mapping[str, Any] | None = None,
        agree: Callable[[Cost], object] | None = None,
        **fields: Any,
    ) -> Self:
        """Return a preset, optionally changed.

        Args:
            name: a name in `preset_names()`.
            set: new values by dotted path into the YAML document.
            agree: called with the Cost before the grid is expanded; it raises an error to stop.
            **fields: new values of top-level fields of the YAML document; None keeps the value of the preset.

        Raises:
            InputError: with the nearest name, if the preset or a field does not exist.

        Returns:
            The Experiment.

        Examples:
            >>> experiment = Experiment.preset("k-decay", steps=20, set={"groups.0.axes.k": [0.3, 1]})
            >>> experiment.steps, str(experiment.setting("inverted k=0.3").guidance)
            (20, 'cosine(max=7.5, min=1, k=0.3).inverted()')
        """
        names = preset_names()
        if name not in names:
            hint = nearest(name, names) or " or give a YAML file."
            raise InputError(f"{name!r} is no preset; there are {', '.join(names)};{hint}")
        source = files("cfglab.experiments") / "presets" / f"{name}.yaml"
        return cls.from_yaml(source.read_text(encoding="utf-8"), set=set, agree=agree, **fields)

    @classmethod
    def from_yaml(
        cls,
        source: Path | str,
        *,
        set: Mapping[str, Any] | None = None,
        agree: Callable[[Cost], object] | None = None,
        **fields: Any,
    ) -> Self:
        """Read an experiment from a YAML file or from YAML text, optionally changed.

        Args:
            source: the path of a .yaml or .yml file, or the text.
            set: new values by dotted path into the document.
            agree: called with the Cost before the grid is expanded; it raises an error to stop.
            **fields: new values of top-level fields; None keeps the value of the document.

        Raises:
            InputError: if the document is not valid, or a field is given both in `fields` and in `set`.

        Returns:
            The Experiment.

        Examples:
            >>> document = '''
            ... name: warm-up
            ... prompts: [a photograph of a cat, a photograph of a dog]
            ... baseline: {name: constant, guidance: 5}
            ... groups: [{name: linear, guidance: "linear(max={w}).inverted()", axes: {w: [5, 7.5]}}]
            ... '''
            >>> experiment = Experiment.from_yaml(document, seeds="0..3")
            >>> [setting.name for setting in experiment.settings], len(experiment.seeds)
            (['constant', 'linear w=5', 'linear w=7.5'], 4)
        """
        stated = {name: _plain(value) for name, value in fields.items() if value is not None}
        if repeated := stated.keys() & (set or {}).keys():
            raise InputError(f"{min(repeated)}: is given twice, as a field and in --set; leave one of them out.")
        written = read_yaml(source)
        if "noise" not in written and _in_a_run(source):
            written["noise"] = "crossed"  # the run was drawn before experiments had this field
        folder = Path(source).parent if str(source).endswith((".yaml", ".yml")) else Path()
        document = check(changed(with_files(written, folder), {**stated, **(set or {})}))
        if agree is not None:
            agree(cost_of(document))
        return cls._from_document(document)

    @classmethod
    def _from_document(cls, document: Document) -> Self:
        baseline_document, setting_documents = expand_grid(document)
        baseline = read_setting(baseline_document)
        settings, left_out = [baseline], list(document.left_out)
        for written in setting_documents:
            try:
                setting = read_setting(written)
                check_schedule(setting, document.steps)
            except NotMatchable as reason:
                left_out.append(ExcludedSettings(name=written.name, reason=str(reason)))
            else:
                settings.append(setting)
        fields = document.model_dump(exclude={"constants", "groups", "baseline", "settings", "left_out"})
        if document.noise is None:
            del fields["noise"]  # not stated: see `Experiment.as_stored`
        fields |= {"prompts": document.prompt_list(), "seeds": read_seeds(document.seeds)}
        return cls(**fields, baseline=baseline, settings=tuple(settings), left_out=tuple(left_out))

    def to_yaml(self) -> str:
        """Return the experiment as YAML with every setting expanded; `from_yaml` reads an equal value."""
        document = self.model_dump(mode="json", exclude={"settings", "baseline", "left_out"})
        document = {name: value for name, value in document.items() if value not in ("", None, {})}
        document |= {"seeds": write_seeds(self.seeds), "noise": self.noise}
        document["baseline"] = written_setting(self.baseline, "name", "title")
        document["settings"] = [written_setting(setting, "name", "group", "title") for setting in self.settings[1:]]
        if self.left_out:
            document["left_out"] = [reason.model_dump() for reason in self.left_out]
        return write_yaml(document)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The grid of configurations and the cost, for notebooks."""
        from cfglab.experiments.spec.figure import Row, draw, outline
        from cfglab.notebook import bundle

        facts = {
            "model": self.model,
            "prompts": f"{len(self.prompts):,}, such as {shown(self.prompts[0], 80)}",
            "seeds": f"{len(self.seeds):,}: {str(write_seeds(self.seeds))[:60]}",
            "steps": f"{self.steps} with {self.sampler}",
        }
        calls = 2 if self.sampler in TWICE else 1
        images = len(self.settings) * len(self.prompts) * len(self.seeds)
        cost = Cost(images, 2 * calls * self.steps * images)
        rows = [Row(setting.name, setting.group, setting.guidance, setting.axes) for setting in self.settings]
        heading = (self.name, self.title, self.question)
        return bundle(
            outline(heading, rows, facts, cost),
            lambda: draw(heading, rows, self.steps, facts, cost, [(item.name, item.reason) for item in self.left_out]),
            include,
            exclude,
        )

    def torch_seeds(self) -> list[int]:
        """Return the torch seed of every prompt and seed: prompts in order, then the seeds of each prompt in order."""
        return [
            torch_seed(seed, self.prompt_offset + position, self.noise)
            for position in range(len(self.prompts))
            for seed in self.seeds
        ]

    def as_stored(self, stored: "Experiment") -> "Experiment":
        """Return this experiment with the noise of a stored one, if it states none and is equal in all other fields.

        So a run of an older version, whose experiment has no such field, continues from the same preset or file.

        Args:
            stored: the experiment of a run.
        """
        if "noise" in self.model_fields_set or self.noise == stored.noise:
            return self
        candidate = self.model_copy(update={"noise": stored.noise})
        return candidate if candidate.id == stored.id else self

    def setting(self, name: str) -> Setting:
        """Return the setting with this name.

        Args:
            name: the name of a setting.

        Raises:
            InputError: with the nearest name, if there is no such setting.
        """
        for setting in self.settings:
            if setting.name == name:
                return setting
        names = [setting.name for setting in self.settings]
        raise InputError(f"{name!r} is no setting of {self.name}:{nearest(name, names) or f' it has {names[0]}, …'}")

    def cells(self, model: ModelFacts | None = None) -> list[tuple[Setting, Cell]]:
        """Return every cell with its setting, ordered by setting, prompt and seed.

        Args:
            model: facts about the model; None reads them from disk.

        Returns:
            One pair for each setting, prompt and seed. Two settings with equal guidance have equal cells.

        Raises:
            InputError: if there is no such model, or it cannot generate images of this size.
        """
        model = model or model_facts(self.model)
        width, height = self.width or model.width, self.height or model.height
        for name, size in (("width", width), ("height", height)):
            if not size:
                raise InputError(f"{name}: {self.model} has no default size; state {name}, such as 1024.")
            if size % model.factor:
                raise InputError(f"{name} {size}: {self.model} draws multiples of {model.factor}; change {name}.")
        prompts, seeds = [prompt for prompt in self.prompts for _ in self.seeds], self.torch_seeds()
        return [
            (
                setting,
                Cell(
                    model=self.model,
                    weights=model.weights,
                    prompt=prompt,
                    negative=self.negative,
                    seed=seed,
                    steps=self.steps,
                    width=width,
                    height=height,
                    sampler=self.sampler,
                    sampler_config=model.sampler_config,
                    dtype=self.dtype,
                    compile=self.compile,
                    arguments={**model.arguments, **self.arguments},
                    guidance=setting.guidance,
                    best_of=setting.best_of,
                    early=setting.early,
                ),
            )
            for setting in self.settings
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


def preset_names() -> list[str]:
    """Return the sorted names that `Experiment.preset` accepts."""
    folder = files("cfglab.experiments") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _in_a_run(source: Path | str) -> bool:
    """Whether a source is the experiment.yaml of a run folder, also of one that lost its results."""
    if isinstance(source, str) and ("\n" in source or not source.endswith(".yaml")):
        return False
    path = Path(source)
    run = (path.parent / "results.sqlite").is_file() or (path.parent / "images").is_dir()
    return path.name == "experiment.yaml" and run


def _plain(value: Any) -> Any:
    if isinstance(value, range):  # only seeds may be one; a long one is refused before it is written out
        return list(read_seeds(value))
    return list(value) if isinstance(value, tuple) else value
