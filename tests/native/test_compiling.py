"""The library is compiled once, and nothing depends on it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from lightning_neurohealth.native import compiling
from lightning_neurohealth.native.compiling import NoLibraryError, load
from lightning_neurohealth.native.kernel import Kernel, kernel


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    if kernel() is None:
        pytest.skip("needs a C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "FLAGS", ("-O0", *compiling.FLAGS[1:]))  # ten times as quick
    return tmp_path / "lightning_neurohealth"


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_where_there_is_a_compiler_there_is_a_kernel() -> None:
    load()  # says why, if not
    assert kernel() is not None


def test_it_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    (made,) = cache.iterdir()
    monkeypatch.setattr(compiling.shutil, "which", lambda name: pytest.fail("compiled again"))
    load()
    assert list(cache.iterdir()) == [made]


def test_others_cannot_write_what_is_loaded(cache: Path) -> None:
    load()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_changed_source_is_compiled_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load()
    changed = tmp_path / "sums.c"
    changed.write_text(compiling.SOURCES[-1].read_text() + "\n")
    monkeypatch.setattr(compiling, "SOURCES", [*compiling.SOURCES[:-1], changed])
    load()
    assert len(list(cache.iterdir())) == 2


def test_a_broken_file_in_the_cache_is_passed_by(cache: Path) -> None:
    load()
    (made,) = cache.iterdir()
    made.unlink()  # what is loaded stays as it is
    made.write_bytes(b"no library")
    assert Kernel(load())


def test_a_folder_that_cannot_be_made_is_done_without(cache: Path) -> None:
    cache.parent.joinpath("lightning_neurohealth").write_text("a file in its place")
    assert Kernel(load())


def test_a_user_without_a_home_has_a_kernel_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiling.Path, "home", nowhere)
    assert Kernel(load())


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_there_is_none(cache: Path) -> None:
    with pytest.raises(NoLibraryError, match="no C compiler was found"):
        load()


def test_what_does_not_compile_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text("this is not C")
    monkeypatch.setattr(compiling, "SOURCES", [wrong])
    with pytest.raises(NoLibraryError, match="failed:"):
        load()
    assert not list(cache.iterdir())


def test_the_compiler_may_be_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    load()  # and one that is not there is not the end
    assert os.listdir(cache)


@pytest.mark.usefixtures("no_compiler")
def test_torch_does_it_all_where_there_is_none(cache: Path) -> None:
    kernel.cache_clear()
    try:
        assert kernel() is None
    finally:
        kernel.cache_clear()
