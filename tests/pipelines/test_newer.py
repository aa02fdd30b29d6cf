"""What `make pipelines` says of a diffusers that is not the one of docs/pipelines.md."""

from types import SimpleNamespace

from tests.pipelines import page
from tests.pipelines.families import cases
from tests.pipelines.newer import Outcomes, changes, rows


def test_every_class_of_the_page_is_read() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    read = rows(text)
    assert set(read) == {name for name, _ in page.classes()}
    assert {name for name, row in read.items() if row[0] == "Run by the tests"} == {case.cls for case in cases()}
    assert read["FluxPipeline"][1:3] == ("flux", "two calls, cond first, or the input `guidance`")
    assert read["DDPMPipeline"][0] == "Refused"
    assert changes(read, read) == []


def test_new_gone_and_changed_classes_are_said() -> None:
    before = rows(page.PAGE.read_text(encoding="utf-8"))
    after = dict(before)
    gone, moved = after.pop("WanPipeline"), after["ErnieImagePipeline"]
    after["WonPipeline"] = gone
    after["ErnieImagePipeline"] = (*moved[:2], moved[2].replace("[uncond; cond]", "[cond; uncond]"), *moved[3:])
    new, lost, changed = changes(before, after)
    assert new.startswith("new: WonPipeline: Run by the tests; wan; two calls")
    assert lost.startswith("gone: WanPipeline: ")
    assert changed.startswith("changed: ErnieImagePipeline: ")
    assert changed.index("[uncond; cond]") < changed.index(" -> ") < changed.index("[cond; uncond]")


def test_red_tests_are_said_class_by_class() -> None:
    outcomes = Outcomes()
    text = "tests/x.py:3: in test\n    f()\nE   InputError: not laid out as cfglab knows it\nE   more"
    for when, failed in (("setup", False), ("call", False), ("call", True), ("teardown", False)):
        outcomes.pytest_runtest_logreport(
            SimpleNamespace(
                when=when,
                failed=failed,
                passed=not failed,
                longreprtext=text,
                nodeid="tests/x.py::test_same[FluxPipeline-embedded]",
            )
        )
    assert outcomes.passed == 1
    assert outcomes.failed == {"FluxPipeline-embedded": ["test_same: InputError: not laid out as cfglab knows it"]}
