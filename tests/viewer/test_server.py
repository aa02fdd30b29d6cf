"""The server of `cfglab show`: what it answers, and what it keeps from other sites, other names and other files."""

import http.client
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.experiments.storage.files import SESSION, STOP, only_writer
from cfglab.experiments.storage.session import Session, StopRequested
from cfglab.viewer.continuation import Continuation, last_device
from cfglab.viewer.run_state import read_state
from cfglab.viewer.server import ViewerServer, serve, start
from tests.small_run import small_run

KEPT = Path(__file__).parents[1] / "kept"
IMAGE = "images/0123abcd.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerServer]:
    """A finished run with one image file, in a folder beside a secret."""
    base = tmp_path_factory.mktemp("base")
    (base / "secret.txt").write_text("secret")
    folder = small_run(base / "run")
    (folder / "images").mkdir(exist_ok=True)
    (folder / IMAGE).write_bytes(b"\x89PNG image")
    with suppress(OSError):  # Windows, without the right to make links
        (folder / "images" / "link.png").symlink_to(base / "secret.txt")
    (folder / "notes.txt").write_text("secret")
    with start(folder, port=0) as running:
        yield running


def ask(
    server: ViewerServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request whose path goes out as it is."""
    name = server.address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(name, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for header, value in headers.items():
            connection.putheader(header.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def press(server: ViewerServer, action: str, **headers: str) -> tuple[int, str]:
    own = {"Origin": server.address.rstrip("/"), "X_Cfglab_Token": server.viewer.token, **headers}
    status, _, body = ask(server, action, "POST", **{name: value for name, value in own.items() if value})
    return status, body.decode()


def test_it_serves_the_page_the_report_and_the_images(server: ViewerServer) -> None:
    status, headers, page = ask(server, "/")
    assert status == 200
    assert server.viewer.token.encode() in page
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    status, headers, page = ask(server, "/report.html")
    assert (status, b"A small run" in page) == (200, True)
    assert headers["Content-Security-Policy"].endswith("sandbox allow-scripts allow-popups allow-downloads")
    for path in ("/report.csv", "/report.json", "/results.csv", f"/{IMAGE}", "/page.js", "/page.css"):
        status, headers, _ = ask(server, path)
        assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff"), path
    status, headers, body = ask(server, f"/{IMAGE}", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "10", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/images/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/images/..%2f..%2fsecret.txt",
        "/images/link.png",
        "/notes.txt",
        "/results.sqlite",
        "/.session.json",
        "/.lock",
        "/experiment.yaml",
        "//etc/passwd",
        "/etc/passwd",
        "/images/",
        "/images/0123abcd.png%00.txt",
        "/report/..%5c..%5csecret.js",
        "/page.html",
        "/__init__.py",
        "/%ff%fe",
    ],
)
def test_no_file_but_those_of_the_report_is_read(server: ViewerServer, path: str) -> None:
    status, headers, body = ask(server, path)
    assert status == 404
    assert b"secret" not in body
    assert b"root:" not in body
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("action", ["/stop", "/continue"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ""}, 403),
        ({"Origin": "null"}, 403),  # the report in its frame
        ({"Origin": "http://evil.example"}, 403),
        ({"X_Cfglab_Token": ""}, 403),
        ({"X_Cfglab_Token": "é"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 400),
        ({}, 409),  # nothing to stop or to continue: the request itself is fine
    ],
    ids=["no origin", "a sandbox", "another site", "no token", "a wrong token", "another name", "the page"],
)
def test_a_button_needs_the_page_itself(
    server: ViewerServer, action: str, headers: dict[str, str], status: int
) -> None:
    answered, words = press(server, action, **headers)
    assert answered == status
    assert words.endswith(".")
    assert "\n" not in words


def test_names_of_other_sites_and_other_methods_are_refused(server: ViewerServer) -> None:
    assert ask(server, "/", Host="evil.example")[0] == 400
    assert ask(server, "/state", Host="evil.example:80")[0] == 400
    assert ask(server, "/", Host="localhost")[0] == 200
    assert ask(server, "/stop")[0] == 404
    assert ask(server, "/report.html", "POST", Origin=server.address.rstrip("/"))[0] == 404
    assert ask(server, "/", "DELETE")[0] == 501


def test_rubbish_ends_no_server(server: ViewerServer) -> None:
    host, port = server.address.removeprefix("http://").rstrip("/").split(":")
    for rubbish in (
        b"\x16\x03\x01\x00\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"",
    ):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(rubbish)
    assert ask(server, "/state")[0] == 200


def state(folder: Path) -> tuple[str, str]:
    now = read_state(folder, time.time())
    return now.state, now.sentence


def test_the_state_of_a_folder_follows_its_session_and_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert state(folder)[0] == "waiting"
    small_run(folder)
    assert state(folder) == ("complete", "It is complete.")
    with only_writer(folder):
        assert state(folder) == ("running", "Another process is writing in this folder.")
        assert not read_state(folder, 0).may_stop
        with Session(folder) as session:
            assert state(folder) == ("running", "The model is loading.")
            session.update(3, 36)
            now = read_state(folder, time.time())
            assert (now.sentence, now.may_stop, now.may_continue) == ("It generates images.", True, False)
            left_behind = (folder / SESSION).read_bytes()
            session.scoring()
            assert "metrics of sets" in state(folder)[1]
    assert state(folder)[0] == "complete"
    (folder / SESSION).write_bytes(left_behind)  # as after kill -9
    now = read_state(folder, time.time())
    assert (now.state, now.may_continue) == ("gone", True)
    assert f"Process {os.getpid()} on" in now.sentence


def test_a_stop_from_the_page_reaches_the_run(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    with start(folder, port=0) as server, only_writer(folder), Session(folder) as session:
        session.update(0, 36)
        session.obey()
        assert press(server, "/stop") == (200, "It stops after the batch that it generates now.")
        assert json.loads(ask(server, "/state")[2])["state"] == "stopping"
        with pytest.raises(StopRequested):
            session.obey()
    assert not (folder / STOP).exists()


@pytest.mark.parametrize("version", ["run-0.1", "run-0.2"])
def test_a_run_of_an_older_version_is_shown_and_nothing_is_written_to_look_at_it(version: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(KEPT / version, tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with start(folder, port=0) as server:
        now = json.loads(ask(server, "/state")[2])
        assert now["state"] == "complete"
        assert now["images"]
        assert ask(server, f"/{now['images'][0]['image']}")[0] == 200
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "-" not in path.suffix}
        assert after == before
        assert b"<h1>" in ask(server, "/report.html")[2]


def test_a_folder_that_cannot_be_read_is_one_line_and_the_server_lives(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with start(folder, port=0) as server:
        assert json.loads(ask(server, "/state")[2])["state"] == "waiting"
        assert ask(server, "/report.html")[0] == 404
        folder.mkdir()
        (folder / "results.sqlite").write_bytes(b"something else, long enough for a database" * 100)
        server.viewer.forget_state()
        now = json.loads(ask(server, "/state")[2])
        assert now["state"] == "damaged"
        assert "is not a run's results, or damaged" in now["sentence"]
        status, _, body = ask(server, "/report.html")
        assert (status, body.count(b"\n")) == (404, 0)


def test_a_report_is_written_again_only_when_the_results_are_newer(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    with start(folder, port=0) as server:
        first = ask(server, "/report.html")[2]
        written = (folder / "report.html").stat().st_mtime_ns
        assert ask(server, "/report.html")[2] == first
        assert (folder / "report.html").stat().st_mtime_ns == written
        os.utime(folder / "results.sqlite", (time.time() + 5, time.time() + 5))
        ask(server, "/report.html")
        assert (folder / "report.html").stat().st_mtime_ns != written


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_run(tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, words in (
            (["show", str(tmp_path / "nothing")], "holds no run"),
            (["show", str(folder), "--port", str(port)], f"--port {port} on 127.0.0.1: cannot be used"),
            (["show", str(folder), "--port", "70000"], "a port is 0 to 65535"),
            (["show", str(folder), "--host", "no such host"], "no address of this computer"),
        ):
            assert call(arguments) == 2
            out, err = capsys.readouterr()
            assert (out, err.count("\n"), words in err) == ("", 1, True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cfglab.viewer.server.PORT", port)
            with start(folder) as server:  # the usual port is taken: another one
                assert f":{port}/" not in server.address


def test_it_says_where_it_is_and_lives_without_a_browser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import webbrowser

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    def no_browser() -> None:
        raise webbrowser.Error

    monkeypatch.setattr("cfglab.viewer.server.time.sleep", interrupt)
    monkeypatch.setattr(webbrowser, "get", no_browser)
    serve(small_run(tmp_path / "run"), port=0, watch=True)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'run'}: http://127.0.0.1:")
    assert first.endswith("/ (this computer only; Ctrl-C ends it)")
    assert second == "no browser was found here; open the address yourself."
    assert third == "36 of 36 images: It is complete."
    serve(tmp_path / "run", host="0.0.0.0", port=0, browser=False)
    assert "(everybody on the network of this computer; Ctrl-C ends it)" in capsys.readouterr().out


def test_options_after_two_hyphens_are_those_of_the_button(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, dict[str, object]]] = []
    monkeypatch.setattr("cfglab.viewer.server.serve", lambda folder, **options: calls.append((folder, options)))
    assert call(["show", "runs/x", "--watch", "--no-browser", "--", "--ray", "auto"]) == 0
    options = {"host": "127.0.0.1", "port": None, "options": ["--ray", "auto"], "watch": True, "browser": False}
    assert calls == [(Path("runs/x"), options)]


def test_continue_runs_the_same_folder_with_the_options_of_the_person_only(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    (folder / "versions.json").write_text('[{"device": "cpu"}, {"device": "cuda:1"}]')
    command = Continuation(folder).command()[3:]
    assert command == [
        "run",
        str(folder / "experiment.yaml"),
        "--out",
        str(folder),
        "--quiet",
        "--yes",
        "--device",
        "cuda",
    ]
    chosen = Continuation(folder, ["--device=cpu", "--ray", "auto"]).command()
    assert chosen[-3:] == ["--device=cpu", "--ray", "auto"]
    assert "cuda" not in chosen
    for device in ('"--allow-pickle"', '"cpu --ray x"', "3", "null"):
        (folder / "versions.json").write_text(f'[{{"device": {device}}}]')
        assert last_device(folder) is None


def test_a_continuation_that_fails_says_why_and_can_be_tried_again(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    going = Continuation(folder, ["--no-such-option"])
    going.start()
    with pytest.raises(InputError, match="continues this run already"):
        going.start()
    going.wait()
    assert going.process is None
    assert going.error.startswith("No such option: --no-such-option")
    assert "\n" not in going.error
    with start(folder, port=0) as server:
        server.viewer.continuation = going
        assert server.viewer.state().state == "complete"  # all images are there: nothing is wrong with the run
        with only_writer(folder), Session(folder):
            server.viewer.forget_state()
            assert server.viewer.state().state == "running"
        (folder / SESSION).write_text((folder / SESSION).read_text().replace("finished", "stopped"))
        server.viewer.forget_state()
        assert server.viewer.state().sentence.startswith("It could not be continued: No such option")
    (folder / "experiment.yaml").unlink()
    with pytest.raises(InputError, match=r"experiment\.yaml: is missing"):
        going.start()
