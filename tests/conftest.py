"""Settings of all tests.

Compiling takes most of their time. What was compiled once is kept in `.pytest_cache/compiled`, for
tests that compile the same again, for the other worker, for the processes that tests start, and for
the next run.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

# One thread in every library, also in the processes that tests start: two cores are shared
# by all of them.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

COMPILED = Path(__file__).resolve().parent.parent / ".pytest_cache" / "compiled"
COMPILED_BYTES_MAX = 2**30
"""Beyond this all of it is thrown away: programs of code that has changed are never asked for."""
os.environ.setdefault("EDGEPACT_JAX_CACHE", str(COMPILED))

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "edgepact",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("edgepact")

HEAVY = (
    "tests/live/test_run.py",
    "tests/mechanisms/stackelberg/test_dynamics.py",
    "tests/mechanisms/stackelberg/test_optimum.py",
    "tests/solvers/learners/test_diffusion.py",
    "tests/solvers/learners/test_training.py",
    "tests/mechanisms/stackelberg/test_audit.py",
    "tests/mechanisms/stackelberg/test_layer_pricing.py",
    "tests/solvers/in_context/test_pricing.py",
    "tests/training/test_clip.py",
    "tests/market/test_live.py",
    "tests/test_gym.py",
    "tests/mechanisms/contract/test_problem.py",
    "tests/mechanisms/auction/test_problem.py",
    "tests/studies/test_changing.py",
    "tests/solvers/learned_auctions/test_menus.py",
    "tests/test_cli.py",
)
"""Files that take longest, which come first, so that no worker is left alone with one of them."""

QUICKLY = (
    "tests/mechanisms/",
    "tests/solvers/",
    "tests/studies/",
    "tests/training/",
    "tests/test_gym.py",
)
"""Where compiling takes several times as long as what is compiled."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: at for at, name in enumerate(HEAVY)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(HEAVY)))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # After jaxtyping has said what it checks, and before anything is compiled: it sets flags of
    # XLA, by which what is kept goes, here and in the processes that tests start.
    import edgepact  # noqa: F401

    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if not is_worker and COMPILED.exists():
        kept = sum(file.stat().st_size for file in COMPILED.iterdir())
        if kept > COMPILED_BYTES_MAX:
            shutil.rmtree(COMPILED)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> None:
    import jax

    if os.environ["EDGEPACT_JAX_CACHE"] == "off":
        return
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", os.environ["EDGEPACT_JAX_CACHE"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(autouse=True)
def compiled_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    """Programs that run once and shortly are compiled with few optimisations.

    What they compute differs by rounding. Tests that take long compile as users do, and so do all
    tests of other folders, and the smoke runs of studies and of the main job.
    """
    takes_long = any(map(request.node.get_closest_marker, ("slow", "full")))
    if takes_long or not request.node.nodeid.startswith(QUICKLY):
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches the processes a test starts, even if the suite itself was told to ignore it.

    A shell starts what it puts in the background with SIGINT ignored, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
