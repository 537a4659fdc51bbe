"""Tensors as they travel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, floating_dtypes

from edgepact.tensors import is_finite


@given(data=st.data(), dtype=floating_dtypes(endianness="<", sizes=(16, 32)))
def test_finite_is_what_numpy_says_and_half_precision_by_its_bits(
    data: st.DataObject, dtype: np.dtype
) -> None:
    value = data.draw(arrays(dtype, array_shapes(min_side=0, max_side=4)))
    assert is_finite(value) == bool(np.isfinite(value).all())
    for odd in (np.nan, np.inf, -np.inf):
        if value.size:
            value.flat[data.draw(st.integers(0, value.size - 1))] = odd
            assert not is_finite(value)
