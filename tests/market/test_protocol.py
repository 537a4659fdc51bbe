"""Messages: what is encoded is decoded, and nothing else passes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepact.errors import InputError
from edgepact.market.protocol import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    CommitRequest,
    EnrolRequest,
    NoOffer,
    Offer,
    TensorSpec,
    TensorValue,
    check_tensors,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    read_object,
    read_offer,
)

OFFER = Offer(
    round=3,
    price_microcredits=1_250_000,
    model="m",
    layers_max=12,
    images_per_round=4,
    commit_timeout_s=2.5,
    codecs=("int8", "fp32"),
    committed=7,
    jobs_done=("3-0", "3-1"),
)

_ARRAYS = st.one_of(
    *(
        hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
        for dtype in (np.int8, np.float16, np.float32)
    )
)
_BYTES = st.lists(st.binary(max_size=40), max_size=4).map(tuple)
_NAMES = st.text("abcxyz_", min_size=1, max_size=12)
_TENSORS = st.dictionaries(_NAMES, st.one_of(_ARRAYS, _BYTES), min_size=1, max_size=4)


def same(left: dict[str, TensorValue], right: dict[str, TensorValue]) -> bool:
    assert left.keys() == right.keys()
    for name, value in left.items():
        other = right[name]
        if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
            assert value.dtype == other.dtype
            assert value.shape == other.shape
            assert value.tobytes() == other.tobytes()
        else:
            assert value == other
    return True


def test_messages_survive_json() -> None:
    assert OFFER.price == 1.25
    assert read_offer(json.loads(json.dumps(OFFER.as_json()))) == OFFER
    for state in ("wait", "over"):
        assert read_offer({"state": state}) == NoOffer(state=state)
    enrol = EnrolRequest(token="t", name="cam-1")
    assert EnrolRequest.from_json(enrol.as_json()) == enrol
    commit = CommitRequest(round=1, layers=0)
    assert CommitRequest.from_json(commit.as_json()) == commit


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "sale"),
        ("round", 0),
        ("round", True),
        ("round", 1.0),
        ("price_microcredits", -1),
        ("price_microcredits", 10**30),
        ("model", ""),
        ("layers_max", None),
        ("images_per_round", 10**9),
        ("commit_timeout_s", 10**400),
        ("commit_timeout_s", "1"),
        ("codecs", "int8"),
        ("codecs", [1]),
        ("committed", 13),
        ("jobs_done", None),
    ],
)
def test_impossible_offer_names_the_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"offer: {field}"):
        read_offer(OFFER.as_json() | {field: value})


@settings(deadline=None)
@given(tensors=_TENSORS, job=st.text("abc-09", min_size=1, max_size=20))
def test_request_survives_the_wire(tensors: dict[str, TensorValue], job: str) -> None:
    body, length = encode_request(job, tensors, {"round": 4})
    request = decode_request(body, str(length))
    assert request.id == job
    assert request.parameters["round"] == 4
    assert request.binary_output
    assert same(request.inputs, tensors)


@settings(deadline=None)
@given(array=hnp.arrays(np.float32, (2, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_response_survives_the_wire_binary_and_as_json(array: np.ndarray) -> None:
    for binary in (True, False):
        body, length = encode_response(
            id="j", model="m", outputs={"p": array}, parameters={"label": "x"}, binary=binary
        )
        assert (length is None) is not binary
        response = decode_response(body, None if length is None else str(length))
        assert (response.id, response.model, response.parameters) == ("j", "m", {"label": "x"})
        assert same(response.outputs, {"p": array})


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_request_is_refused_and_never_breaks(data: st.DataObject) -> None:
    tensors: dict[str, TensorValue] = {
        "tokens": np.ones((1, 2, 3), np.int8),
        "image": (b"abc", b""),
    }
    body, length = encode_request("job", tensors, {"round": 1})
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    header = data.draw(
        st.one_of(st.just(str(length)), st.none(), st.text(max_size=4), st.just("9" * 30))
    )
    for sent in (bytes(damaged), body[:cut]):
        try:
            request = decode_request(sent, header)
        except InputError:
            continue
        assert request.inputs  # it happened to remain a request


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        ({"datatype": "FP64", "shape": [1], "data": [1]}, "datatype"),
        ({"datatype": [], "shape": [1], "data": [1]}, "datatype"),
        ({"datatype": "FP32", "shape": [2], "data": [1]}, "shape"),
        ({"datatype": "FP32", "shape": [1] * 9, "data": [1]}, "shape"),
        ({"datatype": "FP32", "shape": [-1], "data": [1]}, "shape"),
        ({"datatype": "FP32", "shape": [1], "data": [1e300]}, "data"),
        ({"datatype": "FP32", "shape": [1], "data": [10**400]}, "data"),
        ({"datatype": "INT8", "shape": [1], "data": [128]}, "data"),
        ({"datatype": "INT8", "shape": [1], "data": [0.5]}, "data"),
        ({"datatype": "FP32", "shape": [1], "data": ["x"]}, "data"),
        ({"datatype": "FP32", "shape": [2], "data": [[1], [2, 3]]}, "data"),
        ({"datatype": "FP32", "shape": [1], "data": None}, "finite"),
        ({"datatype": "BYTES", "shape": [1], "data": ["x"]}, "BYTES"),
        ({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}, "4 bytes"),
        ({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": -4}}, "size"),
        ({"datatype": "FP32", "shape": [1], "parameters": []}, "parameters"),
    ],
)
def test_impossible_tensor_is_refused(tensor: dict[str, object], says: str) -> None:
    body = json.dumps({"inputs": [{"name": "x", **tensor}]}).encode()
    spec = TensorSpec(name="x", datatype="FP32", shape=(1,))
    with pytest.raises(InputError, match=says):
        check_tensors(decode_request(body, None).inputs, [spec])


def test_sizes_have_limits() -> None:
    body, length = encode_request("j", {"x": np.zeros(4, np.float32)}, {"pad": "x" * 70_000})
    assert length > HEADER_BYTES_MAX
    with pytest.raises(InputError, match=str(HEADER_BYTES_MAX)):
        decode_request(body, str(length))
    with pytest.raises(InputError, match=str(BODY_BYTES_MAX)):
        decode_request(b" " * (BODY_BYTES_MAX + 1), None)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    many = json.dumps({"inputs": [tensor], "outputs": [{"name": "p"}] * 9}).encode()
    with pytest.raises(InputError, match="at most 8"):
        decode_request(many, None)
    body, length = encode_request("j", {"x": np.zeros(4, np.float32)}, {})
    with pytest.raises(InputError, match="16 bytes"):
        decode_request(body + b"more", str(length))


def test_json_is_read_strictly() -> None:
    for text in (b"NaN", b'{"a": Infinity}', b"[1]", b'"x"', b"", b"{", b"[" * 20_000):
        with pytest.raises(InputError, match="here"):
            read_object("here", text)


def test_tensors_are_held_against_their_specs() -> None:
    specs = [
        TensorSpec(name="image", datatype="BYTES", shape=(1,)),
        TensorSpec(name="x", datatype="FP16", shape=(1, 2)),
    ]
    good: dict[str, TensorValue] = {"image": (b"",), "x": np.zeros((1, 2), np.float16)}
    check_tensors(good, specs)
    wrong: list[tuple[dict[str, TensorValue], str]] = [
        ({"image": (b"",)}, "tensors"),
        (good | {"y": (b"",)}, "tensors"),
        (good | {"image": (b"", b"")}, "shape"),
        (good | {"image": np.zeros(1, np.int8)}, "data type"),
        (good | {"x": np.zeros((1, 2), np.float32)}, "data type"),
        (good | {"x": np.zeros((2, 1), np.float16)}, "shape"),
        (good | {"x": np.array([[0, np.nan]], np.float16)}, "finite"),
    ]
    for tensors, says in wrong:
        with pytest.raises(InputError, match=says):
            check_tensors(tensors, specs)
