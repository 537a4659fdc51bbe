"""Flower and Ray keep to themselves: import this before either of them.

Their usage statistics, checks for updates and installation of packages at run time are switched
off by environment variables that they read when they are imported. What the environment says
already is left as it is.
"""

import os

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would announce a change of its handling of GPUs, of which there are none here.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
