"""Compiled programs are kept between runs, where they can be."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from edgepact import compiled
from edgepact.compiled import (
    FLAGS,
    IN_ORDER,
    VARIABLE,
    _can_be_written,
    _folder,
    have_programs_end,
)

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


def test_jaxlib_0_10_goes_without_the_scheduler_that_hangs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for own, released, after in (
        ("", "0.10.2", IN_ORDER),
        ("--xla_dump_to=x", "0.10.2", f"--xla_dump_to=x {IN_ORDER}"),
        (IN_ORDER.replace("false", "true"), "0.10.2", IN_ORDER.replace("false", "true")),
        ("", "0.11.2", ""),
    ):
        monkeypatch.setenv(FLAGS, own)
        monkeypatch.setattr(compiled, "version", lambda _, told=released: told)
        have_programs_end()
        have_programs_end()
        assert os.environ[FLAGS] == after


def test_nothing_is_left_out_where_there_is_no_jaxlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setenv(FLAGS, "")
    monkeypatch.setattr(compiled, "version", missing)
    have_programs_end()
    assert os.environ[FLAGS] == ""


def test_programs_of_ones_own_have_the_flag_too() -> None:
    """XLA reads its flags once, before the first program, which need not be one of edgepact."""
    first = "import jax, edgepact, os; jax.numpy.ones(3) + 1; print(os.environ.get('XLA_FLAGS'))"
    own = {name: value for name, value in os.environ.items() if name != FLAGS}
    said = subprocess.run(
        [sys.executable, "-c", first], env=own, check=True, capture_output=True, text=True
    )
    assert (IN_ORDER in said.stdout) == version("jaxlib").startswith("0.10.")


SIDE_BY_SIDE = """
from dataclasses import replace
import jax
from edgepact.mechanisms.contract.problem import InstancePrior, MenuDesign
from edgepact.solvers.learners.ppo import PPO

problem, solver = MenuDesign(window=1, rounds=None), PPO(learning_rate=3e-3)
keys = jax.random.split(jax.random.key(0), 8)
instances = jax.vmap(lambda key: InstancePrior().sample(key, 8))(keys)

def one(instance, key):
    game = replace(problem, instances=instance, types=8)
    return jax.tree.leaves(solver.epoch(game, solver.init(game, key), key))[0]

epoch = jax.jit(jax.vmap(one))
for at in range(100):
    epoch(instances, jax.random.split(jax.random.key(at), 8)).block_until_ready()
"""


@pytest.mark.slow
def test_learners_side_by_side_end() -> None:
    own = {name: value for name, value in os.environ.items() if name != FLAGS}
    subprocess.run([sys.executable, "-c", SIDE_BY_SIDE], env=own, check=True, timeout=600)
