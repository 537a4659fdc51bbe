"""Messages: what is encoded is decoded, and nothing else passes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepact.engagement import Answer, Item, Question, posted
from edgepact.errors import InputError
from edgepact.market.protocol.messages import (
    MESSAGE_BYTES_MAX,
    Commitment,
    CommitRequest,
    EnrolRequest,
    NoOffer,
    Offer,
    read_device,
    read_object,
    read_offer,
)
from edgepact.market.protocol.oip import (
    BODY_BYTES_MAX,
    TENSORS_MAX,
    check_tensors,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from edgepact.tensors import ANY, TensorSpec, TensorValue
from edgepact.work import Model

OFFER = Offer(
    round=3,
    question=posted(1_250_000, 12),
    job="classification",
    model=Model(name="m", amount_max=12, digest="ab12"),
    units_per_round=4,
    commit_timeout_s=2.5,
    codecs=("int8", "fp32"),
    standing="assigned",
    assigned=Item(amount=7.0, reward_microcredits=8_750_000),
    pieces_done={"3-0": 1, "3-1": 2},
)

QUESTIONS = (
    posted(7, 3, 0.5),
    Question(),
    Question(
        menu=(Item(amount=3.0, reward_microcredits=5), Item(amount=1.0, reward_microcredits=0))
    ),
    Question(bid_amounts=(1.0, 2.5)),
    Question(menu=(Item(amount=1.0, reward_microcredits=5),), bid_amounts=(1.0,)),
)

_ARRAYS = st.one_of(
    *(
        hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
        for dtype in (np.int8, np.int32, np.int64, np.float16, np.float32)
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
    for question in QUESTIONS:
        offer = Offer(
            **{name: getattr(OFFER, name) for name in OFFER.__slots__} | {"question": question}
        )
        assert read_offer(json.loads(json.dumps(offer.as_json()))) == offer
    assert read_offer(json.loads(json.dumps(OFFER.as_json()))) == OFFER
    for state in ("wait", "over"):
        assert read_offer({"state": state}) == NoOffer(state=state)
    # A server of before did not say whom it takes a device for.
    assert read_device("offer", {"state": "wait"}) is None
    assert read_device("offer", {"state": "wait", "device": "cam-1"}) == "cam-1"
    for name in ("cam 1\n", ".", ".."):
        with pytest.raises(InputError, match="offer: name"):
            read_device("offer", {"device": name})
    enrol = EnrolRequest(token="t", name="cam-1")
    assert EnrolRequest.from_json(enrol.as_json()) == enrol
    for answer in (
        Answer(),
        Answer(item=3),
        Answer(bids_microcredits=(None, 7, 10**15), claims={"examples": 12.0}),
    ):
        commit = CommitRequest(round=1, answer=answer)
        assert CommitRequest.from_json(json.loads(json.dumps(commit.as_json()))) == commit
    for assigned in (None, Item(amount=0.0, reward_microcredits=0), OFFER.assigned):
        told = Commitment(round=1, assigned=assigned)
        assert Commitment.from_json(json.loads(json.dumps(told.as_json()))) == told


def test_a_posted_price_travels_as_its_price() -> None:
    assert OFFER.as_json()["question"] == {
        "price_microcredits": 1_250_000,
        "steps": 12,
        "step": 1.0,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round", 0),
        ("item", -1),
        ("item", True),
        ("item", 1.0),
        ("bids_microcredits", 7),
        ("bids_microcredits", [-1]),
        ("bids_microcredits", [10**16]),
        ("bids_microcredits", [None] * 1001),
        ("claims", []),
        ("claims", {"x": "1"}),
        ("claims", {str(at): 1.0 for at in range(17)}),
    ],
)
def test_impossible_answer_names_the_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"commit: {field}"):
        CommitRequest.from_json({"round": 1, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "sale"),
        ("round", 0),
        ("round", True),
        ("round", 1.0),
        ("question", None),
        ("job", ""),
        ("model", ""),
        ("amount_max", None),
        ("digest", None),
        ("units_per_round", 10**9),
        ("commit_timeout_s", 10**400),
        ("commit_timeout_s", "1"),
        ("codecs", "int8"),
        ("codecs", [1]),
        ("standing", "waiting"),
        ("assigned", {"amount": -1.0, "reward_microcredits": 1}),
        ("assigned", {"amount": 1.5, "reward_microcredits": 1}),
        ("assigned", {"amount": 1.0, "reward_microcredits": 1.0}),
        ("pieces_done", None),
        ("pieces_done", {"3-0": -1}),
    ],
)
def test_impossible_offer_names_the_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"offer: {field}"):
        read_offer(OFFER.as_json() | {field: value})


@pytest.mark.parametrize(
    "question",
    [
        {"price_microcredits": -1, "steps": 1, "step": 1.0},
        {"price_microcredits": 10**30, "steps": 1, "step": 1.0},
        {"price_microcredits": 1, "steps": 0, "step": 1.0},
        {"price_microcredits": 1, "steps": 10**9, "step": 1.0},
        {"price_microcredits": 1, "steps": 1, "step": 0.0},
        {"menu": [{"amount": 0.0, "reward_microcredits": 1}]},
        {"menu": [{"amount": 1.0}]},
        {"menu": [1]},
        {"bid_amounts": [-1.0]},
        {"bid_amounts": [1.0] * 1001},
    ],
)
def test_impossible_question_is_refused(question: dict[str, object]) -> None:
    with pytest.raises(InputError):
        read_offer(OFFER.as_json() | {"question": question})


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
        ({"datatype": "FP32", "shape": [2], "data": [[1], [2]]}, r"data: .* found .* \[2, 1\]"),
        ({"datatype": "FP32", "shape": [2, 3], "data": [[1, 2], [3, 4], [5, 6]]}, r"\[3, 2\]"),
        ({"datatype": "FP32", "shape": [1], "data": None}, "nothing"),
        ({"datatype": "FP32", "shape": [1], "data": "1"}, r"inputs.x.data: .* found \"1\""),
        ({"datatype": "FP32", "shape": [1], "data": {"0": 1}}, "a table"),
        ({"datatype": "FP32", "shape": [1], "data": [10**400]}, "data: .* at most 3.40282e"),
        ({"datatype": "FP32", "shape": [1], "data": [1e39]}, "data: .* at most 3.40282e"),
        ({"datatype": "FP16", "shape": [1], "data": [70000]}, "data: .* at most 65504"),
        ({"datatype": "FP32", "shape": [1, 0], "data": [[]]}, "empty"),
        ({"datatype": "INT64", "shape": [1], "data": [2**63]}, "inputs.x.data: .* whole numbers"),
        (
            {
                "datatype": "FP32",
                "shape": [1],
                "data": [1],
                "parameters": {"binary_data_size": 0},
            },
            "inputs.x: expected either data or binary_data_size",
        ),
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


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "INT8", "INT64"])
@pytest.mark.parametrize(
    "entry", ['"1"', '""', "true", "false", "null", "[1]", "[]", "{}", "1e400", "NaN", "-Infinity"]
)
@pytest.mark.parametrize("data", ["[{},0,0,0]", "[0,0,0,{}]", "[[0,0],[0,{}]]", "[[{},0],[0,0]]"])
def test_what_is_no_number_is_none_of_a_tensor(datatype: str, entry: str, data: str) -> None:
    head = f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[2,2],"data":'
    good = decode_request((head + data.format("1") + "}]}").encode(), None)
    assert good.inputs["x"].shape == (2, 2)  # type: ignore[union-attr]
    with pytest.raises(InputError) as refused:
        decode_request((head + data.format(entry) + "}]}").encode(), None)
    named = "" if entry in ("NaN", "-Infinity") else "inputs.x.data"
    assert refused.value.field == named


@given(
    array=hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=3),
        elements=st.integers(-(2**63), 2**63 - 1),
    )
)
def test_numbers_in_json_arrive_as_they_were_written(array: np.ndarray) -> None:
    entry = {"name": "x", "datatype": "INT64", "shape": list(array.shape)}
    for data in (array.tolist(), array.ravel().tolist()):
        body = json.dumps({"inputs": [entry | {"data": data}]}).encode()
        assert np.array_equal(decode_request(body, None).inputs["x"], array)  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", ["1", '"true"', "null"])
def test_a_flag_is_true_or_false(flag: str) -> None:
    tensor = '{"name":"x","datatype":"FP32","shape":[1],"data":[1]}'
    for text, field in (
        (f'"parameters":{{"binary_data_output":{flag}}}', "parameters.binary_data_output"),
        (
            f'"outputs":[{{"name":"p","parameters":{{"binary_data":{flag}}}}}]',
            "outputs[0].parameters.binary_data",
        ),
    ):
        with pytest.raises(InputError) as refused:
            decode_request(f'{{"inputs":[{tensor}],{text}}}'.encode(), None)
        assert refused.value.field == field


def test_sizes_have_limits() -> None:
    body, length = encode_request("j", {"x": np.zeros(4, np.float32)}, {"pad": "x" * 70_000})
    assert length > MESSAGE_BYTES_MAX
    with pytest.raises(InputError, match=str(MESSAGE_BYTES_MAX)):
        decode_request(body, str(length))
    with pytest.raises(InputError, match=str(BODY_BYTES_MAX)):
        decode_request(b" " * (BODY_BYTES_MAX + 1), None)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    many = json.dumps({"inputs": [tensor], "outputs": [{"name": "p"}] * (TENSORS_MAX + 1)}).encode()
    with pytest.raises(InputError, match=f"at most {TENSORS_MAX}"):
        decode_request(many, None)
    body, length = encode_request("j", {"x": np.zeros(4, np.float32)}, {})
    with pytest.raises(InputError, match="16 bytes"):
        decode_request(body + b"more", str(length))


TWICE = b'{"inputs": [{"name": "x", "data": [1], "data": [2]}]}'


def test_json_is_read_strictly() -> None:
    bad = (b"NaN", b'{"a": Infinity}', b"[1]", b'"x"', b"", b"{", b"[" * 20_000, TWICE)
    for text in (*bad, *("{}".encode(each) for each in ("utf-16", "utf-16-le", "utf-32"))):
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
    free = [TensorSpec(name="x", datatype="FP16", shape=(ANY, 2))]
    for rows in (0, 1, 7):
        check_tensors({"x": np.zeros((rows, 2), np.float16)}, free)
    for shape in ((2,), (1, 3), (1, 1, 2)):
        with pytest.raises(InputError, match="shape"):
            check_tensors({"x": np.zeros(shape, np.float16)}, free)


def test_numbers_that_the_protocol_has_no_name_for_are_refused_before_they_are_sent() -> None:
    with pytest.raises(InputError, match=r"tensor: x: expected numbers of a type of .*complex64"):
        encode_request("j", {"x": np.zeros(4, np.complex64)}, {})
