"""The server's half: what it takes, and what an audit tells apart."""

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.inference.codec import CODECS
from edgepact.inference.models import embedded
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.market.protocol import TensorValue
from edgepact.market.work import (
    Workbench,
    audit_secret,
    digest,
    pack,
    picked_for_audit,
    unpack,
)
from tests.market.harness import image, inputs_at


@pytest.fixture(scope="module")
def bench() -> Workbench:
    bench = Workbench(embedded())
    bench.warm()
    return bench


def test_answer_agrees_with_the_whole_model(bench: Workbench, pipeline: Pipeline) -> None:
    for index in range(0, 60, 6):
        whole = bench.answer(0, inputs_at(pipeline, 0, image(index)))
        for layers in range(1, 13):
            sent = inputs_at(pipeline, layers, image(index), "fp32")
            bench.check(layers, sent)
            answer = bench.answer(layers, sent)
            assert np.array_equal(answer.probabilities, whole.probabilities)
            assert answer.label == whole.label


def test_every_codec_fits_its_specs(bench: Workbench, pipeline: Pipeline) -> None:
    for layers in range(13):
        for codec in CODECS:
            bench.check(layers, inputs_at(pipeline, layers, image(), codec))


def test_model_names_are_exact(bench: Workbench) -> None:
    assert [bench.layers_of(bench.model_name(layers)) for layers in range(13)] == list(range(13))
    for name in ("", "fashion-clip-cut-", "fashion-clip-cut-13", "fashion-clip-cut-٣", "-cut-1"):
        assert bench.layers_of(name) is None


def test_audit_passes_honest_work(bench: Workbench, pipeline: Pipeline) -> None:
    for layers in range(1, 13):
        for codec in CODECS:
            sent = pack(inputs_at(pipeline, layers, image(layers), codec))
            assert bench.passes_audit(layers, sent, image(layers))


def test_audit_tells_cheap_substitutes_apart(bench: Workbench, pipeline: Pipeline) -> None:
    for layers in range(1, 13):
        honest = inputs_at(pipeline, layers, image(3), "fp32")
        (name,) = honest
        x = honest[name]
        assert isinstance(x, np.ndarray)
        substitutes: list[dict[str, TensorValue]] = [
            inputs_at(pipeline, layers, image(200), "fp32"),  # another image
            {name: np.zeros_like(x)},
            {name: np.random.default_rng(0).normal(0, x.std(), x.shape).astype(np.float32)},
        ]
        if 1 < layers < 12:  # one layer skipped
            substitutes.append(inputs_at(pipeline, layers - 1, image(3), "fp32"))
        for substitute in substitutes:
            assert not bench.passes_audit(layers, pack(substitute), image(3))


def test_audit_needs_an_image(bench: Workbench, pipeline: Pipeline) -> None:
    sent = pack(inputs_at(pipeline, 4, image()))
    with pytest.raises(InputError, match="image"):
        bench.passes_audit(4, sent, b"none")


def test_evidence_is_kept_exactly(pipeline: Pipeline) -> None:
    sent = inputs_at(pipeline, 5, image())
    kept = unpack(pack(sent))
    assert digest(kept) == digest(dict(reversed(list(sent.items()))))
    other = inputs_at(pipeline, 5, image(1))
    assert digest(other) != digest(sent)
    assert preprocess(image(), pipeline.info).shape == (1, 1, 28, 28)


def test_share_of_audited_jobs_is_the_probability() -> None:
    secret = audit_secret(3)
    picked = [picked_for_audit(secret, "cam-1", f"{i}", 0.05) for i in range(20_000)]
    assert 0.04 < np.mean(picked) < 0.06
    again = [picked_for_audit(audit_secret(3), "cam-1", f"{i}", 0.05) for i in range(20_000)]
    assert picked == again
    assert not any(picked_for_audit(secret, "a", f"{i}", 0.0) for i in range(1000))
    assert all(picked_for_audit(secret, "a", f"{i}", 1.0) for i in range(1000))
    assert audit_secret(None) != audit_secret(None)
    assert audit_secret(3) != audit_secret(4)
