"""The site as it is built, and where its pages are."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PARTS = {"how-to/small-devices-measured"}
"""Pages that are parts of others."""

PAGES = [
    *sorted(
        {
            page.relative_to(DOCS).with_suffix("").as_posix()
            for page in DOCS.rglob("*.md")
            if "_build" not in page.parts
        }
        - PARTS
    ),
    *sorted(f"notebooks/{page.stem}" for page in (ROOT / "examples" / "notebooks").glob("*.md")),
    "genindex",
    "py-modindex",
    "search",
]


@pytest.fixture(scope="session")
def site() -> Path:
    """Folder of the site: what `make docs` built, of which pages that have changed are built anew.

    One process builds at a time, of those that share the tests.
    """
    pytest.importorskip("furo")
    built = DOCS / "_build" / "html"
    built.mkdir(parents=True, exist_ok=True)
    with (built.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = subprocess.run(
            [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(built)],
            capture_output=True,
            text=True,
            timeout=600,
        )
    # A warning fails it; what kernels of notebooks say of themselves does not.
    assert answer.returncode == 0, answer.stderr
    return built
