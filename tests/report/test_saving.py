"""Contact sheets, animations, tables and figures: which image stands where, what is refused, what is escaped."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cfglab
from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.experiments.analysis.comparison import Comparison
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.arrays import ResultArrays
from cfglab.experiments.storage.results import Result, ResultRow
from cfglab.experiments.storage.store import Store
from cfglab.report.saving.comparison_table import escaped
from cfglab.report.saving.selection import Selection
from tests.small_run import FACTS, small_run

YAML = """
name: colours
title: Colours
prompts: [a cat, a dog of some name]
seeds: 0..2
steps: 4
baseline: {name: constant, guidance: 7.5}
groups:
  - {name: k-decay, guidance: "cosine(max=7.5, k={k})", axes: {k: [0.5, 1, 2]}}
  - {name: inverted, guidance: "cosine(max=7.5, k={k}).inverted()", axes: {k: [0.5, 1, 2]}}
"""


def colour(setting: int, prompt: int, seed: int) -> tuple[int, int, int]:
    """The colour of an image says which one it is."""
    return 20 + 30 * setting, 100 + 100 * prompt, 40 + 60 * seed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cfglab.Run:
    """Seven settings, two prompts, three seeds; every image is of one colour, 32 × 16; the last one failed."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    experiment, rows = Experiment.from_yaml(YAML), []
    with Store.create(folder, experiment) as store:
        for position, (setting, cell) in enumerate(experiment.cells(FACTS)):
            index, rest = divmod(position, 6)
            prompt, seed = divmod(rest, 3)
            values: dict[str, Any] = {"cell": cell.id, "position": position, "setting": setting.name}
            values |= {"prompt": cell.prompt, "seed": experiment.seeds[seed]}
            if position == 41:
                rows.append(ResultRow(result=Result(**values, status="failed", error="no"), settled=True))
                continue
            name = f"images/{cell.id}.png"
            Image.new("RGB", (32, 16), colour(index, prompt, seed)).save(folder / name)
            rows.append(ResultRow(result=Result(**values, status="done", image=name), settled=True))
        store.record(rows)
    return cfglab.Run(folder)


def tiles(image: Image.Image, rows: int, columns: int) -> list[list[tuple[int, ...]]]:
    """The colours in the middle of every tile of 128 × 64, found by the colours that no text has."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    coloured = (pixels.max(axis=2) - pixels.min(axis=2) > 14) | (np.abs(pixels - [236, 234, 229]).max(axis=2) < 2)
    top = next(y for y in range(len(pixels)) if coloured[y].sum() >= 100)
    left = next(x for x in range(pixels.shape[1]) if coloured[top : top + 64, x].sum() >= 60)
    return [
        [tuple(pixels[top + 70 * row + 40, left + 134 * column + 64].tolist()) for column in range(columns)]
        for row in range(rows)
    ]


def saved(run: cfglab.Run, path: Path, **options: Any) -> Image.Image:
    return Image.open(io.BytesIO(run.save_images(path, **options).read_bytes()))


def test_a_contact_sheet_has_the_image_of_its_row_and_column(run: cfglab.Run, tmp_path: Path) -> None:
    sheet = saved(run, tmp_path / "sheet.png", rows="seed", columns="k", at={"group": "inverted", "prompt": "some"})
    # the baseline, then the settings of the group inverted, with the second prompt
    expected = [[colour(setting, 1, seed) for setting in (0, 4, 5, 6)] for seed in range(3)]
    actual = tiles(sheet, 3, 4)
    assert actual[:2] == expected[:2]
    assert actual[2][:3] == expected[2][:3]
    assert actual[2][3] == (236, 234, 229)  # it failed
    assert tiles(saved(run, tmp_path / "b.png", rows="prompt", columns="setting"), 2, 7) == [
        [colour(setting, prompt, 0) for setting in range(7)] for prompt in range(2)
    ]
    assert tiles(saved(run, tmp_path / "c.png", rows="group", columns="k", at={"seed": "2"}), 2, 4) == [
        [colour(setting, 0, 2) for setting in line] for line in ((0, 1, 2, 3), (0, 4, 5, 6))
    ]
    assert tiles(saved(run, tmp_path / "e.png", rows="prompt", columns="seed"), 2, 3) == [  # of the baseline
        [colour(0, prompt, seed) for seed in range(3)] for prompt in range(2)
    ]
    assert tiles(saved(run, tmp_path / "f.png", rows="prompt", columns="seed", at={"k": "2"}), 2, 3) == [
        [colour(3, prompt, seed) for seed in range(3)] for prompt in range(2)
    ]
    assert tiles(saved(run, tmp_path / "d.png"), 2, 4) == [  # as in the report, with the baseline before
        [colour(setting, 0, 0) for setting in line] for line in ((0, 1, 2, 3), (0, 4, 5, 6))
    ]


def test_the_foot_of_a_sheet_names_what_is_fixed(run: cfglab.Run) -> None:
    selection = Selection(ResultArrays.read(run.store))
    for rows, columns, at, note in (
        ("seed", "k", {}, "group k-decay · a cat"),
        ("seed", "prompt", {}, "constant"),
        ("seed", "prompt", {"k": "2"}, "group k-decay · k = 2"),
        ("seed", "prompt", {"k": "2", "group": "inverted"}, "group inverted · k = 2"),
        ("none", "setting", {"seed": "1"}, "a cat · seed 1"),
        ("none", "prompt", {"k": 0.5, "seed": 1}, "group k-decay · k = 0.5 · seed 1"),
        ("seed", "prompt", {"k": 1.0}, "group k-decay · k = 1"),
    ):
        grid = selection.grid(rows, columns, selection.pins(at))
        assert grid.note == note
    assert selection.grid("none", "k", {}).columns == ("baseline: constant", "k = 0.5", "k = 1", "k = 2")


def test_settings_that_a_sheet_has_no_place_for_are_named(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML.replace("groups:", "settings: [{name: lone, guidance: 2}]\ngroups:"))
    with Store.create(tmp_path / "run", experiment) as store:
        selection = Selection(ResultArrays.read(store))
    grid = selection.grid("group", "k", {})
    assert grid.columns == ("baseline: constant", "k = 0.5", "k = 1", "k = 2")
    assert grid.note == "a cat · seed 0 · not shown: lone"
    assert selection.grid("none", "setting", {}).note == "a cat · seed 0"
    assert selection.grid("none", "k", selection.pins({"group": "inverted"})).note == "group inverted · a cat · seed 0"


def test_small_images_keep_their_pixels_and_a_size_is_the_longest_side(run: cfglab.Run, tmp_path: Path) -> None:
    usual = saved(run, tmp_path / "usual.png", rows="none", columns="seed")
    large = saved(run, tmp_path / "large.png", rows="none", columns="seed", size=256)
    assert large.width - usual.width == 3 * (256 - 128)
    for image, height in ((usual, 64), (large, 128)):
        first = (np.asarray(image) == colour(0, 0, 0)).all(axis=2)
        assert (first.sum(axis=0).max(), first.sum(axis=1).max()) == (height, 2 * height)
    assert len(set(np.asarray(usual).reshape(-1, 3)[:, 0].tolist())) > 3  # there are labels


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_has_a_frame_for_each_value_of_the_axis(run: cfglab.Run, kind: str, tmp_path: Path) -> None:
    film = saved(run, tmp_path / f"film.{kind}", over="k", columns="seed", at={"group": "k-decay"}, seconds=0.5)
    assert (film.format, film.n_frames, film.info.get("loop")) == (kind.upper(), 3, 0)  # type: ignore[attr-defined]
    for frame, setting in enumerate((1, 2, 3)):
        film.seek(frame)
        film.load()
        assert film.info["duration"] == 500
        actual = np.array(tiles(film.convert("RGB"), 1, 3))
        assert np.abs(actual - np.array([[colour(setting, 0, seed) for seed in range(3)]])).max() <= 12  # lossy


def test_groups_that_sweep_other_axes_have_a_sheet_by_default(tmp_path: Path) -> None:
    """No setting has both axes; a group that is fixed shows its own."""
    experiment = Experiment.from_yaml(
        "{name: apart, prompts: [a cat, a dog], steps: 4, baseline: {name: base, guidance: 3}, groups: ["
        "{name: a, guidance: '{w}', axes: {w: [1, 2]}}, {name: b, guidance: 'linear(max={m})', axes: {m: [3, 5]}}]}"
    )
    with Store.create(tmp_path / "run", experiment) as store:
        selection = Selection(ResultArrays.read(store))
    assert selection.first_look({}) == ("prompt", "w")
    for group, axis in (("a", "w"), ("b", "m")):
        pins = selection.pins({"group": group})
        assert selection.first_look(pins) == ("prompt", axis)
        assert selection.grid("prompt", axis, pins).columns[1:] == tuple(
            f"{axis} = {value}" for value in selection.values(axis)
        )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.png", {"rows": "kk"}, "axis 'kk': the run has the axes setting, group, k, prompt, seed"),
        ("a.png", {"at": {"seed": "7"}}, "seed=7: the values of this axis are 0, 1, 2"),
        ("a.png", {"at": {"prompt": "a "}}, "2 prompts hold this text"),
        ("a.png", {"rows": "k", "columns": "k"}, "axis 'k': is used twice"),
        ("a.png", {"rows": "seed", "columns": "k", "at": {"k": "1"}}, "axis 'k': is used twice"),
        ("a.png", {"over": "k"}, "is of an animation"),
        ("a.png", {"size": 5}, "from 16 to 4096"),
        ("a.gif", {"over": "k", "rows": "k"}, "axis 'k': is used twice"),
        ("a.gif", {"seconds": 0.0}, "from 0.02 to 60"),
        ("a.gif", {"over": "group", "at": {"setting": "constant"}}, "has fewer than two values"),
        ("a.tex", {}, "use cfglab compare"),
        ("a.docx", {}, "images are saved as .png, .gif or .webp"),
        ("no/a.png", {}, "there is no folder"),
    ],
)
def test_what_cannot_be_saved_is_one_line_and_leaves_nothing(
    run: cfglab.Run, name: str, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        run.save_images(tmp_path / name, **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return cfglab.Run(small_run(tmp_path_factory.mktemp("small") / "run")).compare("alignment")


def test_the_csv_of_a_comparison_has_every_digit(comparison: Comparison, tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(comparison.save(tmp_path / "table.csv").read_text())))
    assert [line["setting"] for line in lines] == ["constant", "more", "less"]
    assert [line["n"] for line in lines] == ["12", "12", "12"]
    assert [float(line["mean"]) for line in lines] == [0.5, 1.0, 0.0]
    for line, row in zip(lines[1:], comparison.rows, strict=True):
        for name in ("difference", "low", "high", "p", "p_holm"):
            value = getattr(row, name)
            assert line[name] == ("" if value is None else repr(value))
        assert line["against"] == "constant"


def test_the_latex_of_a_comparison_is_a_booktabs_table(comparison: Comparison, tmp_path: Path) -> None:
    text = comparison.save(tmp_path / "table.tex").read_text()
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lrrrrrr}"
    assert [body[1], body[3], *body[-2:]] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    rows = body[4:-2]
    assert rows[0] == r"constant (baseline) & 12 & 0.5 &  &  &  &  \\"
    assert all(row.count(" & ") == 6 and row.endswith(r" \\") for row in rows[1:])
    row = comparison.rows[0]
    assert "$+0.5$" in rows[1]
    if row.low is not None:
        assert f"$[{row.low:+.3g}, {row.high:+.3g}]$" in rows[1]
    assert (r"\textbf{more}" in rows[1]) == row.significant


def test_names_are_text_in_latex_and_in_figures(comparison: Comparison, tmp_path: Path) -> None:
    evil = r"\input{/etc/passwd} 50% & $x_1^2$ #~<b>"
    assert escaped(evil) == (
        r"\textbackslash{}input\{/etc/passwd\} 50\% \& \$x\_1\textasciicircum{}2\$ \#\textasciitilde{}"
        r"\textless{}b\textgreater{}"
    )
    named = comparison.model_copy(
        update={
            "baseline": "$bad{",
            "note": "a\n\\end{document}",
            "rows": (comparison.rows[0].model_copy(update={"setting": evil}), *comparison.rows[1:]),
        }
    )
    table = named.save(tmp_path / "evil.tex").read_text()
    assert r"\input{" not in table
    assert all(line.startswith("%") for line in table.splitlines() if r"\end{document}" in line)
    drawn = ET.fromstring(named.save(tmp_path / "evil.svg").read_bytes())
    words = " ".join("".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert evil in words
    assert "difference from $bad{, 95 % interval (n = 12, higher is better)" in words.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(("suffix", "magic"), [(".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_figure_of_a_comparison_is_the_same_file_each_time(
    comparison: Comparison, suffix: str, magic: bytes, tmp_path: Path
) -> None:
    first = comparison.save(tmp_path / f"a{suffix}").read_bytes()
    assert first.startswith(magic)
    assert comparison.save(tmp_path / f"b{suffix}").read_bytes() == first
    if suffix == ".png":
        narrow = Image.open(io.BytesIO(comparison.save(tmp_path / "narrow.png", width=3.25).read_bytes()))
        assert abs(narrow.width - 3.25 * 300) <= 2
    if suffix == ".pdf":
        assert b"/FontFile2" in first  # the fonts are inside


def test_the_commands_save_and_refuse_in_one_line(
    run: cfglab.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(run.folder)
    assert call(["export", folder, "s.png", "--rows", "seed", "--columns", "k", "--at", "group=inverted"]) == 0
    assert capsys.readouterr().out == "s.png\n"
    small = str(small_run(tmp_path / "run"))
    assert call(["compare", small, "--out", "t.tex"]) == 0
    assert capsys.readouterr().out == "t.tex\n"
    assert Path("t.tex").read_text().startswith("% alignment compared with constant")
    for arguments, words in (
        (["export", folder, "s.png", "--at", "seed"], "--at seed: write an axis and its value"),
        (["compare", small, "--out", "t.doc"], "a comparison is saved as .csv, .tex, .pdf, .svg, .png"),
        (["compare", small, "--out", "t.pdf", "--width", "99"], "inches, from 1 to 40"),
        (["export", folder, "s.png", "--at", "seed=1", "--at", "seed=2"], "--at seed=2: seed is fixed twice"),
        (["compare", small, "--out", "t.csv", "--width", "3"], "a width is of a figure, .pdf, .svg, .png"),
        (["compare", small, "--metric", "contrast", "--shuffled"], "does not depend on the prompt"),
        (["compare", small, "--baseline", "constant", "--equal", "dose"], "no baseline is used; leave one of them out"),
        (["compare", small, "--width", "3"], "give its file: --out figure.pdf"),
        (["compare", small, "--out", "t.tex", "--choose", "seeds"], "leave one of them out"),
    ):
        assert call(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), words in err) == ("", 1, True), err
