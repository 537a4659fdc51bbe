"""Settings of all tests."""

import os
import signal
from collections.abc import Iterator

# One thread in every library, also in the processes that tests start: two cores are shared
# by all of them.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

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


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches the processes a test starts, even if the suite itself was told to ignore it.

    A shell starts what it puts in the background with SIGINT ignored, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
