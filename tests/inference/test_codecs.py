"""The built-in codecs: how far they move numbers, what they refuse, what they leave alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgepact import registry
from edgepact.errors import InputError
from edgepact.inference.codecs import BUILT_IN, FP16, FP32, INT8, packed_bytes
from edgepact.tensors import Codec, TensorSpec, TensorValue

FP32_MAX = float(np.finfo(np.float32).max)


def spec_of(x: np.ndarray, name: str = "tokens") -> TensorSpec:
    return TensorSpec(name=name, datatype="FP32", shape=x.shape, coded=True)


def pack(codec: Codec, x: np.ndarray) -> dict[str, TensorValue]:
    return codec.pack({"tokens": x}, [spec_of(x)])


def there_and_back(codec: Codec, x: np.ndarray) -> np.ndarray:
    return np.asarray(codec.unpack(pack(codec, x), [spec_of(x)])["tokens"])


def activations(largest: float) -> st.SearchStrategy[np.ndarray]:
    numbers = st.floats(-largest, largest, width=32, allow_nan=False)
    shapes = npst.array_shapes(min_dims=1, max_dims=4, max_side=6)
    return npst.arrays(np.float32, shapes, elements=numbers)


@given(activations(2.0**100))
def test_int8_moves_no_number_by_more_than_half_the_scale_of_its_row(x: np.ndarray) -> None:
    scale = np.asarray(pack(INT8, x)["tokens.scale"], np.float64)
    moved = np.abs(there_and_back(INT8, x).astype(np.float64) - x)
    # One part in a million: the quotient x/scale is itself rounded to fp32.
    assert (moved <= scale / 2 * (1 + 1e-6)).all()


@given(activations(FP32_MAX))
def test_int8_expresses_every_finite_number(x: np.ndarray) -> None:
    scale = np.asarray(pack(INT8, x)["tokens.scale"])
    assert (scale > 0).all()
    assert np.isfinite(scale).all()


@given(activations(65504.0))
def test_fp16_is_the_nearest_half(x: np.ndarray) -> None:
    np.testing.assert_array_equal(there_and_back(FP16, x), x.astype(np.float16))


@given(activations(FP32_MAX))
def test_fp32_is_lossless(x: np.ndarray) -> None:
    np.testing.assert_array_equal(there_and_back(FP32, x), x)


@given(activations(1000.0), st.sampled_from(BUILT_IN))
def test_errors_stay_within_the_tolerance_that_audits_allow(x: np.ndarray, codec: Codec) -> None:
    largest = np.abs(x).max(axis=-1, keepdims=True)
    moved = np.abs(there_and_back(codec, x).astype(np.float64) - x)
    # Halves below their normal range are rounded to steps of 2**-24, whatever the largest.
    assert (moved <= codec.tolerance * largest + 2.0**-24).all()


@given(activations(1000.0), st.sampled_from(BUILT_IN))
def test_what_is_packed_is_what_was_announced(x: np.ndarray, codec: Codec) -> None:
    announced = {each.name: (each.datatype, each.shape) for each in codec.packed([spec_of(x)])}
    types = {"INT8": np.int8, "FP16": np.float16, "FP32": np.float32}
    packed = pack(codec, x)
    assert packed.keys() == announced.keys()
    for name, value in packed.items():
        datatype, shape = announced[name]
        assert isinstance(value, np.ndarray)
        assert (value.dtype, value.shape) == (types[datatype], shape)


@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda each: each.name)
def test_what_is_not_coded_passes_by(codec: Codec) -> None:
    specs = [
        TensorSpec(name="image", datatype="BYTES", shape=(1,)),
        TensorSpec(name="ids", datatype="INT64", shape=(2,), coded=True),
        TensorSpec(name="vector", datatype="FP32", shape=(2,)),
        TensorSpec(name="a", datatype="FP32", shape=(2, 3), coded=True),
        TensorSpec(name="b", datatype="FP32", shape=(3,), coded=True),
    ]
    sent: dict[str, TensorValue] = {
        "image": (b"x",),
        "ids": np.array([1, 2]),
        "vector": np.array([1.0, np.pi], np.float32),
        "a": np.ones((2, 3), np.float32),
        "b": np.zeros(3, np.float32),
    }
    back = codec.unpack(codec.pack(sent, specs), specs)
    assert back.keys() == sent.keys()
    assert back["image"] == (b"x",)
    for name in ("ids", "vector", "a", "b"):
        np.testing.assert_array_equal(np.asarray(back[name]), np.asarray(sent[name]))


@pytest.mark.parametrize(
    ("codec", "number_bytes", "token_bytes"), [(INT8, 1, 4), (FP16, 2, 0), (FP32, 4, 0)]
)
def test_bytes_on_the_link(codec: Codec, number_bytes: int, token_bytes: int) -> None:
    x = np.ones((2, 50, 768), np.float32)
    assert packed_bytes(pack(codec, x)) == 2 * 50 * (768 * number_bytes + token_bytes)


@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda each: each.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(codec: Codec, bad: float) -> None:
    x = np.ones((1, 2, 3), np.float32)
    x[0, 1, 2] = bad
    with pytest.raises(InputError, match="tokens: expected finite"):
        pack(codec, x)


def test_fp16_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(InputError, match="65504"):
        pack(FP16, np.full((1, 1, 1), 1e6, np.float32))


TOKENS = np.ones((2, 3, 4), np.int8)
SCALE = np.ones((2, 3, 1), np.float32)


@pytest.mark.parametrize(
    ("codec", "tensors", "message"),
    [
        (INT8, {"tokens": TOKENS, "tokens.scale": 0 * SCALE}, "scale: expected finite numbers ab"),
        (INT8, {"tokens": TOKENS, "tokens.scale": SCALE * np.nan}, "scale: expected finite"),
        (INT8, {"tokens": 127 * TOKENS, "tokens.scale": SCALE * FP32_MAX}, "tokens: expected fin"),
        (FP16, {"tokens": np.full((2, 3, 4), np.inf, np.float16)}, "tokens: expected finite"),
        (FP32, {"tokens": np.full((2, 3, 4), np.nan, np.float32)}, "tokens: expected finite"),
    ],
)
def test_numbers_that_no_tensor_packs_to_are_refused(
    codec: Codec, tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        codec.unpack(tensors, [spec_of(np.ones((2, 3, 4)))])


def test_each_is_found_by_its_name() -> None:
    for codec in BUILT_IN:
        assert registry.part("codecs", codec.name) is codec
        assert isinstance(codec, Codec)
    with pytest.raises(InputError, match="fp16, fp32, int8"):
        registry.part("codecs", "zip")
