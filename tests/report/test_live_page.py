"""The page of a run that continues: it notices a newer one beside it and offers it; a finished page looks for none."""

from pathlib import Path

from cfglab.report import VERSION_FILE, report
from tests.report.browser import chromium
from tests.small_run import small_run


def test_only_the_page_of_a_run_that_continues_may_load_scripts_and_looks_for_a_newer_one(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    page = report(folder).read_text(encoding="utf-8")
    assert not (folder / VERSION_FILE).exists()
    assert "script-src 'unsafe-inline'\"" in page
    assert 'id="newer"' not in page
    live = report(folder, live=True).read_text(encoding="utf-8")
    assert "script-src 'unsafe-inline' 'self' file:\"" in live
    assert 'id="newer"' in live
    first = (folder / VERSION_FILE).read_text()
    assert first.split('"')[3] in live
    assert report(folder, live=False).read_text(encoding="utf-8") == page
    assert (folder / VERSION_FILE).read_text() != first
    report(folder, live=True)
    assert (folder / VERSION_FILE).read_text() == first  # the same run, the same version


def test_an_open_page_offers_the_newer_report_and_loads_it(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    path = report(folder, live=True)
    with chromium() as browser:
        page = browser.new_page()
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.clock.install()
        page.goto(path.as_uri())
        newer = page.locator("#newer")
        page.clock.run_for(4000)
        page.locator("head script[src]").wait_for(state="detached")
        assert not newer.is_visible()  # it is the newest
        report(folder, live=False)
        page.clock.run_for(4000)
        newer.wait_for(state="visible")
        newer.get_by_role("button", name="load it").click()
        newer.wait_for(state="detached")
        assert not messages
