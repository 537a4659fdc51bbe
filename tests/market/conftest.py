"""Fixtures of the market's tests; what they are made of is in `harness`."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgepact.inference.models import embedded
from edgepact.inference.pipeline import Pipeline
from tests.market.harness import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(tmp_path, stack)


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return Pipeline(embedded())
