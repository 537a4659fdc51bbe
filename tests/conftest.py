"""Settings of all tests."""

import os
import signal
import sys
from collections.abc import Iterator

# One thread in every library, also in the processes that tests start: two cores are shared
# by all of them.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure(config: pytest.Config) -> None:
    """Keeps what JAX compiles beside pytest's own cache, also in processes that tests start.

    It saves most of the time of a second run, and nothing depends on it. The user's own cache
    is never touched.
    """
    cache = getattr(config, "cache", None)
    if cache is None or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    variables = {
        "jax_compilation_cache_dir": str(cache.mkdir("jax")),
        "jax_compilation_cache_max_size": 2**30,
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    for name, value in variables.items():
        os.environ[name.upper()] = str(value)
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value)


settings.register_profile(
    "edgepact",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("edgepact")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches the processes a test starts, even if the suite itself was told to ignore it.

    A shell starts what it puts in the background with SIGINT ignored, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
