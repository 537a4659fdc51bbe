import pytest

from edgepact.inference.models import embedded
from edgepact.inference.pipeline import Pipeline


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return Pipeline(embedded())
