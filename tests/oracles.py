"""The published packages as oracles: in a folder of their own, under names of their own, never mixed with ours."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from filelock import FileLock

REQUIREMENTS = ("cf-guidance==0.0.3", "min-diffusion==0.0.3")
TOOLS = Path(__file__).resolve().parents[1] / ".tools"


@dataclass(frozen=True)
class Published:
    """cf-guidance 0.0.3 and min-diffusion 0.0.3 in `folder`: for the path of a subprocess, or to load from here."""

    folder: Path

    def module(self, name: str) -> ModuleType:
        """`cf_guidance.schedules` and the like, known to this process as `published_cf_guidance.schedules`."""
        package, _, rest = name.partition(".")
        alias = f"published_{package}"
        if alias not in sys.modules:
            folder = self.folder / package
            spec = importlib.util.spec_from_file_location(
                alias, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[alias] = module
            spec.loader.exec_module(module)
        with stubbed_k_diffusion():
            return importlib.import_module(f"{alias}.{rest}" if rest else alias)


def install_published() -> Published:
    """Install the published packages once into `.tools/published`; workers that start together wait for the first."""
    TOOLS.mkdir(exist_ok=True)
    folder = TOOLS / "published"
    with FileLock(TOOLS / "published.lock"):
        if not folder.is_dir():
            fresh = TOOLS / "published.part"
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--upgrade", "--target", str(fresh), *REQUIREMENTS], check=True)
            fresh.rename(folder)
    return Published(folder)


@contextmanager
def stubbed_k_diffusion() -> Iterator[None]:
    """min-diffusion 0.0.3 does not import without k_diffusion, which it does not require; Euler needs none."""
    stubs = {name: _Stub(name) for name in ("k_diffusion", "k_diffusion.external", "k_diffusion.sampling")}
    stubs["k_diffusion"].__dict__.update(external=stubs["k_diffusion.external"], sampling=stubs["k_diffusion.sampling"])
    present = {name: sys.modules[name] for name in stubs if name in sys.modules}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]
        sys.modules.update(present)


class _Stub(ModuleType):
    __path__: list[str] = []  # noqa: RUF012  what makes an import of `k_diffusion.sampling` look here

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
