"""What is collected, and how types are checked.

Modules that need an extra are not collected where it is not installed.
"""

import importlib.util

# `--jaxtyping-packages` names it, and finds what was imported before.
import tests.typechecks  # noqa: F401

collect_ignore: list[str] = []
if importlib.util.find_spec("flwr") is None:
    federated = "src/edgepact/training/federated"
    collect_ignore += [f"{federated}/flower.py", f"{federated}/apps.py"]
