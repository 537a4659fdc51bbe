"""Settings of all tests."""

import os

# One thread in every library, also in the processes that tests start: two cores are shared
# by all of them.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "edgepact",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("edgepact")
