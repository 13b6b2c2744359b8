"""Turns what is written in C into a library, once on each machine."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
FLAGS = ("-O2", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
"""Nothing that takes NaN for a number; the code chooses among the instructions of processors when it is loaded."""
PATIENCE = 60.0
"""Seconds; it takes three."""


class NoLibraryError(Exception):
    """There is none, and why."""


def load() -> ctypes.CDLL:
    """The library, from the user's cache or newly compiled.

    Raises:
        NoLibraryError: No compiler is here, or what it made does not load.
    """
    if sys.platform not in ("linux", "darwin"):
        raise NoLibraryError(f"it is not built on {sys.platform}")
    name = f"native-{_fingerprint()}.so"
    try:
        return _loaded(_cache(), name)
    except (OSError, RuntimeError):  # no home, no room there, or no right to run what lies there
        own = Path(tempfile.mkdtemp(prefix="lightning_neurohealth-"))
        try:
            return _loaded(own, name)
        except OSError as error:
            raise NoLibraryError(f"it can be kept nowhere: {error}") from error
        finally:
            shutil.rmtree(own, ignore_errors=True)  # what is loaded stays


def _loaded(place: Path, name: str) -> ctypes.CDLL:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (place / name).exists():
        _compile(place, name)
    return ctypes.CDLL(str(place / name))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning_neurohealth"


def _fingerprint() -> str:
    machine = (sys.platform, platform.machine(), *platform.libc_ver())
    said = [*(source.read_bytes() for source in (*SOURCES, *HEADERS)), *map(str.encode, (*FLAGS, *machine))]
    return hashlib.sha256(b"\0".join(said)).hexdigest()[:16]


def _compile(place: Path, name: str) -> None:
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoLibraryError("no C compiler was found")
    with tempfile.TemporaryDirectory(dir=place) as own:  # other ranks may be compiling too
        made = Path(own) / name
        command = [compiler, *FLAGS, f"-I{Path(__file__).parent}", "-o", str(made), *map(str, SOURCES), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as slow:
            raise NoLibraryError(f"{compiler} took more than {PATIENCE:g} s") from slow
        if done.returncode:
            raise NoLibraryError(f"{compiler} failed: {done.stderr.strip()[-500:]}")
        made.replace(place / name)
