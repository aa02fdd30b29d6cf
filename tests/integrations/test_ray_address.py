"""What is said, in seconds, where Ray is not: no cluster is started for these."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.integrations.ray import address as ray_address
from cfglab.integrations.ray.address import check_head

HTTP = b"HTTP/1.0 400 Bad request syntax\r\n\r\n"
SETTINGS = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100])


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """The address of a server that reads what one client says first, answers, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("answer", [HTTP, b"", b"+PONG\r\n"])
def test_another_server_is_not_taken_for_a_ray_head(answer: bytes) -> None:
    with server(answer) as address, pytest.raises(InputError, match=f"--ray {address}: what answers there is no Ray"):
        check_head(address)


def test_a_head_that_speaks_http2_is_accepted() -> None:
    with server(SETTINGS) as address:
        check_head(address)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--ray {address}: no answer \\(timed out\\); start Ray there"):
            check_head(address)


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "head", ":6379", "head:", "head:ray", "", "http://head:6379", f"head:{'9' * 5000}"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(
        InputError, match=r"an address is local, auto or host:port, such as 10\.0\.0\.1:6379; write one"
    ):
        check_head(address)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command in an empty folder, for an experiment on the shipped model."""
    monkeypatch.chdir(tmp_path)
    return ["run", "k-decay", "--seeds", "0", "--steps", "2"]


def test_an_unreachable_address_is_one_line_and_makes_nothing(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"  # free again now
    assert call([*tiny, "--ray", address]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"cfglab: --ray {address}: no answer ([Errno 111] Connection refused); start Ray there with `ray start "
        "--head`, or correct it.\n"
    )
    assert list(Path.cwd().iterdir()) == []


def test_without_ray_the_line_to_install_it_is_said(
    tiny: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cfglab.integrations.ray.executor", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert call([*tiny, "--ray", "local"]) == 2
    assert capsys.readouterr().err == ("cfglab: --ray needs Ray, which is not installed: pip install 'cfglab[ray]'.\n")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("words", [["--workers", "2"], ["--ray", "local", "--workers", "0"]])
def test_workers_are_ray_workers(tiny: list[str], capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert call([*tiny, *words]) == 2
    assert "that is 1 or more Ray workers; say where with --ray local, or leave it out." in capsys.readouterr().err


def test_the_cluster_of_auto_is_looked_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", gone)
    assert call(["run", "k-decay", "--out", str(tmp_path / "run"), "--ray", "auto"]) == 2
    assert f"--ray auto ({gone}): no answer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
