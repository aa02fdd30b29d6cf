"""A plan: hypotheses with their experiment, written before any of its images are looked at.

A plan has two experiments. The first one chooses: of each of its groups the setting with the best mean goes on, on
prompts and seeds of its own. The second one reports, on other prompts and seeds: `{best}` in it is the chosen constant
scale, and every chosen setting takes part as `best GROUP`.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from cfglab.errors import InputError
from cfglab.experiments.spec.document import one_line, read_yaml
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.tuning.successive_halving import method
from cfglab.schedules.fields import nearest, shown
from cfglab.schedules.shapes import Constant
from cfglab.yaml_text import write_yaml

PLAIN = "plain"
"""The group of constant scales, of which the best becomes `{best}` and the baseline of the report."""


class Hypothesis(BaseModel):
    """A statement that images can contradict.

    Attributes:
        id: a short name, such as H1.
        statement: the statement in words.
        setting: the name of a setting of the report.
        baseline: the setting that it is compared with; None is the best constant scale.
        expected: "better", "worse", "equal" (within the margin) or "different".
        margin: the largest difference that counts as equal, in the unit of the metric; needed by "equal".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    statement: str
    setting: str
    baseline: str | None = None
    expected: Literal["better", "worse", "equal", "different"]
    margin: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.expected == "equal") != (self.margin is not None) or (self.margin is not None and self.margin <= 0):
            raise InputError(
                f"hypothesis {self.id}: a margin above 0 belongs to `expected: equal` and to nothing else; "
                "write margin: 0.02, or leave it out."
            )
        return self


class Plan(BaseModel):
    """Hypotheses, and the two experiments that test them.

    Attributes:
        name: the name of the plan.
        title: a title for its page.
        metric: the metric of the choice and of every hypothesis.
        shared: fields of both experiments, such as the number of steps.
        choose: the experiment that chooses, without name and model.
        report: the experiment that reports, without name, model and baseline.
        hypotheses: the hypotheses, one family for Holm's correction.

    Examples:
        >>> from cfglab.experiments.replication.plan import Plan
        >>> len(Plan.read("plan").hypotheses) > 10
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str = ""
    metric: str = "alignment"
    shared: dict[str, Any] = {}
    choose: dict[str, Any]
    report: dict[str, Any]
    hypotheses: tuple[Hypothesis, ...]

    @classmethod
    def read(cls, name: str) -> Self:
        """Read a plan.

        Args:
            name: the name of a plan of cfglab, or the path of a .yaml file.

        Raises:
            InputError: there is no such plan, or it is not valid.
        """
        if name.endswith((".yaml", ".yml")):
            return cls.of(read_yaml(Path(name)))
        if name not in plan_names():
            raise InputError(
                f"{shown(name)} is no plan; there are {', '.join(plan_names())};"
                f"{nearest(name, plan_names()) or ' or give a YAML file.'}"
            )
        return cls.of(read_yaml((files("cfglab.experiments") / "plans" / f"{name}.yaml").read_text(encoding="utf-8")))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Check the mapping of a YAML file.

        Args:
            document: the mapping.

        Raises:
            InputError: in one line.
        """
        try:
            plan = cls.model_validate(dict(document))
        except ValidationError as error:
            raise InputError(one_line(error, cls)) from None
        plan.check()
        return plan

    def check(self) -> None:
        """Raise InputError where the plan contradicts itself."""
        choosing, reporting = self.experiments()
        for setting in choosing.settings:
            if method(setting) == PLAIN:
                _scale(setting)
        if both := sorted(set(choosing.prompts) & set(reporting.prompts)):
            raise InputError(f"prompt {shown(both[0])}: it chooses and reports; report on prompts that chose nothing.")
        if both_seeds := sorted(set(choosing.seeds) & set(reporting.seeds)):
            raise InputError(f"seed {both_seeds[0]}: it chooses and reports; report on seeds that chose nothing.")
        identifiers = [hypothesis.id for hypothesis in self.hypotheses]
        if twice := {name for name in identifiers if identifiers.count(name) > 1}:
            raise InputError(f"hypothesis {min(twice)}: two have this id; give each its own.")
        for hypothesis in self.hypotheses:
            if hypothesis.setting == (hypothesis.baseline or reporting.baseline.name):
                raise InputError(
                    f"hypothesis {hypothesis.id}: {shown(hypothesis.setting)} against itself; name another baseline."
                )
            for name in (hypothesis.setting, hypothesis.baseline or reporting.baseline.name):
                if name not in {excluded.name for excluded in reporting.left_out}:
                    reporting.setting(name)

    def experiments(self, **fields: Any) -> tuple[Experiment, Experiment]:
        """Return both experiments; the report as if the first setting of each group were the best.

        Args:
            **fields: as in `choosing`.
        """
        choosing = self.choosing(**fields)
        first = {method(setting): setting for setting in reversed(choosing.settings)}
        return choosing, self.reporting(first, **fields)

    def choosing(self, **fields: Any) -> Experiment:
        """Return the experiment that chooses.

        Args:
            **fields: fields of an experiment that replace those of the plan, such as `model`; None keeps them.
        """
        return self._experiment("choose", {}, fields)

    def reporting(self, chosen: Mapping[str, Setting], **fields: Any) -> Experiment:
        """Return the experiment that reports.

        Args:
            chosen: group -> its best setting.
            **fields: as in `choosing`.

        Raises:
            InputError: no constant scale was chosen.
        """
        if PLAIN not in chosen:
            raise InputError(
                f"{self.name}: no constant scale was chosen, for an image of each failed, and {{best}} is one; look at "
                "their errors with cfglab report, and give other scales."
            )
        best = chosen[PLAIN].guidance
        constants = {**self.report.get("constants", {}), "best": _scale(chosen[PLAIN])}
        settings = [
            {"name": f"best {group}", "group": "chosen", "title": f"{group}: {setting.guidance}", "guidance": text}
            for group, setting in chosen.items()
            if group != PLAIN and (text := str(setting.guidance))
        ]
        own = {
            "constants": constants,
            "baseline": {"name": "best constant", "title": f"the best constant scale, {best}", "guidance": str(best)},
            "settings": [*self.report.get("settings", []), *settings],
        }
        return self._experiment("report", own, fields)

    def _experiment(self, part: str, own: Mapping[str, Any], fields: Mapping[str, Any]) -> Experiment:
        document = {**self.shared, **getattr(self, part), **own, "name": f"{self.name}-{part}"}
        return Experiment.from_yaml(write_yaml(document), **fields)


def plan_names() -> list[str]:
    """Return the names of the plans of cfglab."""
    return sorted(
        Path(entry.name).stem for entry in (files("cfglab.experiments") / "plans").iterdir() if entry.name[0] != "_"
    )


def _scale(setting: Setting) -> float:
    schedule = setting.guidance.schedule
    if not isinstance(schedule, Constant):
        raise InputError(
            f"choose: {setting.name!r} is no constant scale, and {{best}} is one; move it to another group."
        )
    return schedule.value
