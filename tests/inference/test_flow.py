"""The generator in NumPy: its estimate, its chain, its file."""

from dataclasses import fields, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.inference.flow import (
    WEIGHTS,
    Flow,
    Network,
    moved,
    read_flow,
    write_flow,
)
from edgepact.training.garments import residual
from tests.tiny_generator import DIM, tiny_flow


@pytest.fixture(scope="module")
def flow() -> Flow:
    return tiny_flow()


def texts(rows: int, seed: int = 3) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def gaussian(flow: Flow) -> Flow:
    """One whose network adds nothing."""
    return replace(flow, network=replace(flow.network, out=np.zeros_like(flow.network.out)))


def test_without_a_network_the_estimate_is_the_mean_of_a_gaussian(flow: Flow) -> None:
    t, s = 0.3, flow.variance.astype(float)
    x = flow.noise(1, 5)
    found = gaussian(flow).estimate(x, np.full(5, t), texts(5))
    # Of jointly Gaussian z and x: Cov(z, x) / Var(x) x.
    np.testing.assert_allclose(found, t * s / ((1 - t) ** 2 + t * t * s) * x, rtol=1e-5)


def test_without_a_network_the_chain_ends_with_the_variances_of_the_components(flow: Flow) -> None:
    plain, steps = gaussian(flow), 400
    x = flow.noise(2, 2)
    start = x
    for at in range(steps):
        now, then = np.full(2, at / steps), np.full(2, (at + 1) / steps)
        x = moved(x, plain.meant(x, now, texts(2), 1.0), now, then)
    # The flow between two Gaussians scales each component by the ratio of its deviations.
    np.testing.assert_allclose(x, np.sqrt(flow.variance) * start, rtol=2e-2)


def test_rows_at_different_times_pass_as_they_do_alone(flow: Flow) -> None:
    x, t, text = flow.noise(4, 3), np.array([0.0, 0.4, 0.9]), texts(3)
    together = flow.meant(x, t, text, 2.0)
    for at in range(3):
        alone = flow.meant(x[at : at + 1], t[at : at + 1], text[at : at + 1], 2.0)
        np.testing.assert_allclose(together[at], alone[0], rtol=1e-4, atol=1e-5)


def test_guidance_leads_from_the_estimate_without_text_through_that_with_it(flow: Flow) -> None:
    x, t, text = flow.noise(5, 2), np.array([0.2, 0.7]), texts(2)
    told, free = flow.estimate(x, t, text), flow.estimate(x, t, np.zeros_like(text))
    assert np.abs(told - free).max() > 1e-3
    np.testing.assert_allclose(flow.meant(x, t, text, 0.0), free, atol=1e-5)
    np.testing.assert_allclose(flow.meant(x, t, text, 1.0), told, atol=1e-5)
    np.testing.assert_allclose(flow.meant(x, t, text, 3.0), free + 3 * (told - free), atol=1e-4)


def test_it_is_the_network_that_is_trained(flow: Flow) -> None:
    x, t, text = flow.noise(6, 4), np.array([0.1, 0.3, 0.6, 0.95], np.float32), texts(4)
    weights = {
        field.name: jnp.asarray(getattr(flow.network, field.name)) for field in fields(Network)
    }
    spread = (1 - t[:, None]) ** 2 + t[:, None] ** 2 * flow.variance
    trained = residual(
        weights, jnp.asarray(x / np.sqrt(spread)), jnp.asarray(t[:, None]), jnp.asarray(text)
    )
    known = flow.variance * t[:, None] * x / spread
    own = (flow.estimate(x, t, text) - known) / (np.sqrt(flow.variance / spread) * (1 - t[:, None]))
    np.testing.assert_allclose(own, np.asarray(trained), rtol=1e-3, atol=1e-4)


def test_a_picture_is_its_components_again(flow: Flow) -> None:
    z = 0.1 * flow.noise(7, 3)
    again = flow.encoded(flow.decoded(z))
    # Grey levels are whole: each moves by at most half of one of 127.5.
    assert np.abs(again - z).max() < 0.5 / 127.5 * np.sqrt(784) / 4
    assert flow.decoded(1e6 * z).max() == 255


def test_weights_on_disk_are_within_half_a_step_of_their_scale(flow: Flow, tmp_path: Path) -> None:
    write_flow(flow, tmp_path)
    again = read_flow(tmp_path)
    for name in ("embed", "up", "out"):
        own, came = getattr(flow.network, name), getattr(again.network, name)
        step = np.abs(own).max(axis=-2, keepdims=True) / 127
        assert (np.abs(own - came) <= 0.5001 * step).all()
    np.testing.assert_array_equal(again.variance, flow.variance)
    assert again.step_gmac == flow.step_gmac == 2e-9 * flow.network.multiplications


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04K\x01."])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match="weights of a generator"):
        read_flow(tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_flow(tmp_path)


def changed(folder: Path, flow: Flow, **arrays: np.ndarray) -> Path:
    write_flow(flow, folder)
    with np.load(folder / WEIGHTS) as file:
        every = {name: file[name] for name in file.files} | arrays
    np.savez(folder / WEIGHTS, **every)
    return folder


def test_arrays_that_do_not_fit_are_named(flow: Flow, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="blend: expected shape"):
        read_flow(
            changed(
                tmp_path,
                flow,
                blend=np.zeros((16, 3), np.int8),
                blend_scale=np.ones((1, 3), np.float32),
            )
        )
    with pytest.raises(InputError, match=r"mean: expected finite numbers"):
        read_flow(changed(tmp_path, flow, mean=np.full(784, np.nan, np.float16)))
    with pytest.raises(InputError, match=r"variance: expected numbers above 0"):
        read_flow(changed(tmp_path, flow, variance=np.zeros(12, np.float32)))


def test_pickled_objects_are_not_read(flow: Flow, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights of a generator"):
        read_flow(changed(tmp_path, flow, mean=np.array([{}] * 784, object)))
