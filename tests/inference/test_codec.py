import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgepact.errors import InputError
from edgepact.inference.codec import CODECS, Codec, decode, encode, encoded_bytes

FP32_MAX = float(np.finfo(np.float32).max)


def activations(largest: float) -> st.SearchStrategy[np.ndarray]:
    numbers = st.floats(-largest, largest, width=32, allow_nan=False)
    shapes = npst.array_shapes(min_dims=3, max_dims=3, max_side=6)
    return npst.arrays(np.float32, shapes, elements=numbers)


@given(activations(2.0**100))
def test_int8_moves_no_number_by_more_than_half_the_scale_of_its_token(x: np.ndarray) -> None:
    packed = encode(x, "int8")
    moved = np.abs(decode(packed).astype(np.float64) - x)
    # One part in a million: the quotient x/scale is itself rounded to fp32.
    assert (moved <= packed["scale"].astype(np.float64) / 2 * (1 + 1e-6)).all()


@given(activations(FP32_MAX))
def test_int8_expresses_every_finite_number(x: np.ndarray) -> None:
    packed = encode(x, "int8")
    assert (packed["scale"] > 0).all()
    assert np.isfinite(packed["scale"]).all()


@given(activations(65504.0))
def test_fp16_is_the_nearest_half(x: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(x, "fp16")), x.astype(np.float16))


@given(activations(FP32_MAX))
def test_fp32_is_lossless(x: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(x, "fp32")), x)


def test_tokens_of_zeros_stay_zeros() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    np.testing.assert_array_equal(decode(encode(x, "int8")), x)


@pytest.mark.parametrize(
    ("codec", "number_bytes", "token_bytes"), [("int8", 1, 4), ("fp16", 2, 0), ("fp32", 4, 0)]
)
def test_bytes_on_the_link(codec: Codec, number_bytes: int, token_bytes: int) -> None:
    x = np.ones((2, 50, 768), np.float32)
    assert encoded_bytes(encode(x, codec)) == 2 * 50 * (768 * number_bytes + token_bytes)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_encode_refuses_numbers_that_are_not_finite(codec: Codec, bad: float) -> None:
    x = np.ones((1, 2, 3), np.float32)
    x[0, 1, 2] = bad
    with pytest.raises(InputError, match="finite"):
        encode(x, codec)


def test_fp16_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(InputError, match="65504"):
        encode(np.full((1, 1, 1), 1e6, np.float32), "fp16")


TOKENS = np.ones((2, 3, 4), np.int8)
SCALE = np.ones((2, 3, 1), np.float32)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "expected tensors"),
        ({"scale": SCALE}, "expected tensors"),
        ({"tokens": TOKENS, "scale": SCALE, "more": SCALE}, "expected tensors"),
        ({"tokens": TOKENS}, "tokens: expected float16 or float32"),
        ({"tokens": TOKENS.astype(np.float64)}, "tokens: expected float16 or float32"),
        ({"tokens": TOKENS.astype(np.float16), "scale": SCALE}, "tokens: expected int8"),
        ({"tokens": TOKENS, "scale": SCALE.astype(np.float64)}, "scale: expected float32"),
        ({"tokens": TOKENS, "scale": SCALE[:, :, 0]}, r"scale: expected shape \[2, 3, 1\]"),
        ({"tokens": TOKENS, "scale": SCALE[:1]}, r"scale: expected shape \[2, 3, 1\]"),
        ({"tokens": TOKENS, "scale": 0 * SCALE}, "scale: expected finite numbers above 0"),
        ({"tokens": TOKENS, "scale": SCALE * np.nan}, "scale: expected finite numbers above 0"),
        ({"tokens": 127 * TOKENS, "scale": SCALE * FP32_MAX}, "tokens: expected finite numbers"),
        ({"tokens": np.full((1, 1, 1), np.inf, np.float16)}, "tokens: expected finite numbers"),
        ({"tokens": np.ones((2, 3), np.float16)}, "tokens: expected 3 dimensions"),
        ({"tokens": np.ones((0, 3, 4), np.float16)}, "tokens: expected 3 dimensions"),
    ],
)
def test_decode_refuses_what_encode_cannot_have_made(
    tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        decode(tensors)


def test_encode_names_the_codecs_it_knows() -> None:
    with pytest.raises(InputError, match="one of int8, fp16, fp32"):
        encode(np.ones((1, 1, 1), np.float32), "zip")
