"""The Space from a clean environment: nothing but its own requirements, and cfglab from this checkout."""

import os
import re
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = "git+https://github.com/cfglab/cfglab"


@pytest.mark.slow
def test_the_space_starts_from_its_own_requirements_alone(tmp_path: Path) -> None:
    requirements = (ROOT / "space" / "requirements.txt").read_text()
    assert requirements.count(SOURCE) == 1
    (tmp_path / "requirements.txt").write_text(requirements.replace(SOURCE, ROOT.as_uri()))
    (tmp_path / "app.py").write_bytes((ROOT / "space" / "app.py").read_bytes())
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "platformdirs"], cwd=tmp_path).returncode:
        pytest.skip("no package index can be reached")
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", "requirements.txt"], cwd=tmp_path, check=True)
    assert subprocess.run([python, "-c", "import pytest"], stderr=subprocess.DEVNULL, env=environment).returncode == 1
    environment |= {"GRADIO_SERVER_PORT": "0", "GRADIO_SERVER_NAME": "127.0.0.1", "CFGLAB_FOLDER": str(tmp_path)}
    with subprocess.Popen(
        [python, "app.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as space:
        try:
            assert space.stdout is not None
            line = space.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address, line + space.stdout.read()
            with urllib.request.urlopen(address[0], timeout=60) as response:
                assert response.status == 200
                assert b"cfglab playground" in response.read()
        finally:
            space.terminate()
