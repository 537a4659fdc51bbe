"""Compiled programs are kept between runs, where they can be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepact.compiled import VARIABLE, _can_be_written, _folder

PROGRAM = """
import jax, jax.numpy as jnp
jnp.ones(3) + 1  # something was compiled before
from edgepact.compiled import BYTES_MAX, keep_compiled
print(keep_compiled(), keep_compiled())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.config.jax_compilation_cache_max_size == BYTES_MAX)
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((7, 7))).shape)
"""


def run(**environment: str) -> list[str]:
    """What the program prints with these variables, and without those of the suite."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_", "XDG_")) and name != VARIABLE
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=own | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_programs_are_kept_in_the_users_folder_and_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "edgepact" / "jax"
    where, bounded, _ = run(XDG_CACHE_HOME=str(tmp_path))
    assert where == f"{folder} {folder}"
    assert bounded == "True"
    assert list(folder.glob("*-cache"))
    assert folder.stat().st_mode & 0o077 == 0, "compiled programs are trusted code"


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    where, _, shape = run(**{VARIABLE: str(tmp_path / "file" / "jax")})
    assert where == "None None"
    assert shape == "(7, 7)"


def test_a_folder_that_jax_was_told_of_is_left_alone(tmp_path: Path) -> None:
    where, bounded, _ = run(JAX_COMPILATION_CACHE_DIR=str(tmp_path), XDG_CACHE_HOME="/nowhere")
    assert where == f"{tmp_path} {tmp_path}"
    assert bounded == "False"


@pytest.mark.parametrize("word", ["off", "0", "no", "OFF"])
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(VARIABLE, word)
    assert _folder() is None


def test_relative_cache_homes_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert _folder() == tmp_path / ".cache" / "edgepact" / "jax"
    assert not _can_be_written(Path("/proc/edgepact"))
