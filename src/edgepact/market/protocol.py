"""What server and device say to each other, and how much of it they accept.

Two vocabularies share one connection:

- the market's own messages (enrolment, offer, commitment, audit) are small JSON objects;
- inference speaks the Open Inference Protocol v2 over REST with the binary tensor
  extension: a JSON header, then the tensors' raw little-endian bytes. Numbers that pass
  through JSON text or base64 would cost more than the inference itself.

Both sides use this module, so that a device needs neither a web framework nor a database.
Whatever comes from the other side is checked here before anything is computed with it; what
does not fit raises `InputError`, whose message names the field. Sizes have limits.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import check_list, check_number, check_table, check_text, check_whole, shown

MICRO = 1_000_000
"""Micro-credits in one credit: the ledger and the wire hold whole micro-credits."""

PRICE_CREDITS_MAX = 1e6
"""Highest price per layer and image that can be offered."""

LAYERS_MAX = 10_000
IMAGES_PER_ROUND_MAX = 100_000
NAME_CHARS_MAX = 64
TOKEN_CHARS_MAX = 256
JOB_CHARS_MAX = 64
TENSORS_MAX = 8
DIMENSIONS_MAX = 8

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Largest request body: an image file, or an activation in fp32."""

HEADER_BYTES_MAX = 64 * 1024
"""Largest JSON part of a request: market messages and headers of inference requests."""

JSON_OBJECT = "a JSON object"
JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"
"""HTTP header of the binary tensor extension: bytes of JSON before the tensors."""

DATATYPES: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("<i1"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
}
"""Numeric data types of the protocol that split inference uses; `BYTES` comes on top."""

TensorValue = np.ndarray[Any, np.dtype[Any]] | tuple[bytes, ...]
"""A tensor as the program holds it: a NumPy array, or the elements of a BYTES tensor."""


# ---------------------------------------------------------------- market messages


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    """A device asks for a token of its own, once, with the operator's one-time token."""

    token: str
    name: str

    def __post_init__(self) -> None:
        check_text("enrol", "token", self.token, chars_max=TOKEN_CHARS_MAX)
        check_name("enrol", self.name)

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {"token": self.token, "name": self.name}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "EnrolRequest":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        return cls(
            token=check_text("enrol", "token", body.get("token"), chars_max=TOKEN_CHARS_MAX),
            name=check_name("enrol", body.get("name")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the server offers for one round.

    Args:
        round: number of the round, from 1.
        price_microcredits: paid per layer and image.
        model: name of the model; the cut at L is called `<model>-cut-<L>`.
        layers_max: layers of the model.
        images_per_round: images the server takes from each device in this round.
        commit_timeout_s: time left to commit, seconds; more if nobody has committed yet.
        codecs: codecs the server accepts, its favourite first.
        committed: what this device has committed to already (it may have restarted).
        jobs_done: jobs of this device in this round that the server knows already.
    """

    round: int
    price_microcredits: int
    model: str
    layers_max: int
    images_per_round: int
    commit_timeout_s: float
    codecs: tuple[str, ...]
    committed: int | None = None
    jobs_done: tuple[str, ...] = ()

    @property
    def price(self) -> float:
        """Credits per layer and image."""
        return self.price_microcredits / MICRO

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {
            "state": "offer",
            "round": self.round,
            "price_microcredits": self.price_microcredits,
            "model": self.model,
            "layers_max": self.layers_max,
            "images_per_round": self.images_per_round,
            "commit_timeout_s": self.commit_timeout_s,
            "codecs": list(self.codecs),
            "committed": self.committed,
            "jobs_done": list(self.jobs_done),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "Offer":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        layers_max = check_whole(
            "offer", "layers_max", body.get("layers_max"), least=1, most=LAYERS_MAX
        )
        committed = body.get("committed")
        return cls(
            round=check_round("offer", body.get("round")),
            price_microcredits=check_whole(
                "offer",
                "price_microcredits",
                body.get("price_microcredits"),
                least=0,
                most=int(PRICE_CREDITS_MAX * MICRO),
            ),
            model=check_text("offer", "model", body.get("model"), chars_max=4 * NAME_CHARS_MAX),
            layers_max=layers_max,
            images_per_round=check_whole(
                "offer",
                "images_per_round",
                body.get("images_per_round"),
                least=1,
                most=IMAGES_PER_ROUND_MAX,
            ),
            commit_timeout_s=check_number(
                "offer", "commit_timeout_s", body.get("commit_timeout_s")
            ),
            codecs=_texts("offer", "codecs", body.get("codecs"), 16),
            committed=None
            if committed is None
            else check_whole("offer", "committed", committed, least=0, most=layers_max),
            jobs_done=_texts("offer", "jobs_done", body.get("jobs_done"), IMAGES_PER_ROUND_MAX),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOffer:
    """Nothing to commit to: ask again (`wait`), or the market has ended (`over`)."""

    state: Literal["wait", "over"]

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {"state": self.state}


def read_offer(body: Mapping[str, object]) -> Offer | NoOffer:
    """Reads the answer to a poll for offers.

    Raises:
        InputError: it is neither an offer nor one of the two other answers.
    """
    match body.get("state"):
        case "offer":
            return Offer.from_json(body)
        case "wait":
            return NoOffer(state="wait")
        case "over":
            return NoOffer(state="over")
        case other:
            raise InputError("offer", "state", "'offer', 'wait' or 'over'", shown(other))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """A device commits to a number of layers for every image of a round."""

    round: int
    layers: int

    def as_json(self) -> dict[str, object]:
        """The message as a JSON object."""
        return {"round": self.round, "layers": self.layers}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> "CommitRequest":
        """Reads the message.

        Raises:
            InputError: a field is missing or impossible.
        """
        return cls(
            round=check_round("commit", body.get("round")),
            layers=check_whole("commit", "layers", body.get("layers"), least=0, most=LAYERS_MAX),
        )


def check_name(source: str, value: object) -> str:
    """A device's name: letters, digits, `.`, `_` and `-`, so that it can stand in accounts.

    Raises:
        InputError: anything else.
    """
    name = check_text(source, "name", value, chars_max=NAME_CHARS_MAX)
    if not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise InputError(source, "name", "letters, digits, '.', '_' and '-' only", shown(name))
    return name


def check_job(source: str, value: object) -> str:
    """A job's id, under which it is paid once: 1 to 64 printable ASCII characters.

    Raises:
        InputError: anything else.
    """
    job = check_text(source, "id", value, chars_max=JOB_CHARS_MAX)
    if not (job.isascii() and job.isprintable()):
        raise InputError(source, "id", "printable ASCII characters only", shown(job))
    return job


def check_round(source: str, value: object) -> int:
    """A round's number.

    Raises:
        InputError: not a whole number from 1.
    """
    return check_whole(source, "round", value, least=1, most=2**53)


def read_object(source: str, body: bytes, bytes_max: int = HEADER_BYTES_MAX) -> dict[str, object]:
    """Reads one JSON object (strictly: no NaN, no Infinity).

    Raises:
        InputError: too large, no JSON, or no object.
    """
    if len(body) > bytes_max:
        raise InputError(source, "", f"at most {bytes_max} bytes of JSON", f"{len(body)} bytes")
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(source, "", "a JSON object", f"no JSON ({error})") from None
    return check_table(source, "", value, kind=JSON_OBJECT)


# ---------------------------------------------------------------- Open Inference Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, data type and exact shape of a tensor of a model."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, object]:
        """The entry in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """An inference request, decoded.

    Args:
        id: the job's id, empty if the client gave none.
        inputs: tensors by name.
        parameters: the request's parameters.
        binary_output: whether the answer's tensors shall be binary.
    """

    id: str
    inputs: dict[str, TensorValue]
    parameters: dict[str, object] = field(default_factory=dict)
    binary_output: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InferResponse:
    """An inference response, decoded."""

    id: str
    model: str
    outputs: dict[str, TensorValue]
    parameters: dict[str, object]


def encode_request(
    id: str, inputs: Mapping[str, TensorValue], parameters: Mapping[str, object]
) -> tuple[bytes, int]:
    """An inference request with binary tensors.

    Returns:
        The HTTP body, and the length of its JSON part for the header `HEADER_LENGTH`.
    """
    entries, chunks = _encode_tensors(inputs)
    head = {
        "id": id,
        "parameters": {**parameters, "binary_data_output": True},
        "inputs": entries,
    }
    return _join(head, chunks)


def decode_request(body: bytes, header_length: str | None) -> InferRequest:
    """Reads an inference request; tensors may be binary or JSON.

    Args:
        body: the HTTP body.
        header_length: value of the HTTP header `HEADER_LENGTH`, None if absent.

    Raises:
        InputError: malformed, too large, or its tensors do not match their shapes.
    """
    source = "infer request"
    head, rest = _split(source, body, header_length)
    parameters = check_table(source, "parameters", head.get("parameters", {}), kind=JSON_OBJECT)
    request_id = head.get("id", "")
    return InferRequest(
        id="" if request_id == "" else check_job(source, request_id),
        inputs=_decode_tensors(source, "inputs", head.get("inputs"), rest),
        parameters=parameters,
        binary_output=_wants_binary(source, head, parameters),
    )


def encode_response(
    *,
    id: str,
    model: str,
    outputs: Mapping[str, TensorValue],
    parameters: Mapping[str, object],
    binary: bool = True,
) -> tuple[bytes, int | None]:
    """An inference response.

    Returns:
        The HTTP body, and the length of its JSON part (None if it is JSON altogether).
    """
    entries, chunks = _encode_tensors(outputs, binary=binary)
    head = {
        "model_name": model,
        "model_version": "1",
        "id": id,
        "parameters": dict(parameters),
        "outputs": entries,
    }
    body, length = _join(head, chunks)
    return body, length if binary else None


def decode_response(body: bytes, header_length: str | None) -> InferResponse:
    """Reads an inference response.

    Raises:
        InputError: malformed.
    """
    source = "infer response"
    head, rest = _split(source, body, header_length)
    return InferResponse(
        id=str(head.get("id", "")),
        model=str(head.get("model_name", "")),
        outputs=_decode_tensors(source, "outputs", head.get("outputs"), rest),
        parameters=check_table(source, "parameters", head.get("parameters", {}), kind=JSON_OBJECT),
    )


def check_tensors(inputs: Mapping[str, TensorValue], specs: Sequence[TensorSpec]) -> None:
    """Holds tensors against what a model takes: names, types, shapes, finite values.

    Raises:
        InputError: names the first tensor that does not fit.
    """
    source = "infer request"
    expected = sorted(spec.name for spec in specs)
    if sorted(inputs) != expected:
        raise InputError(source, "inputs", f"the tensors {expected}", str(sorted(inputs)))
    for spec in specs:
        value = inputs[spec.name]
        place = f"inputs.{spec.name}"
        datatype = _datatype(value)
        if datatype != spec.datatype:
            raise InputError(source, place, f"data type {spec.datatype}", datatype)
        shape = (len(value),) if isinstance(value, tuple) else value.shape
        if tuple(shape) != spec.shape:
            raise InputError(source, place, f"shape {list(spec.shape)}", str(list(shape)))
        if (
            isinstance(value, np.ndarray)
            and value.dtype.kind == "f"
            and not np.isfinite(value).all()
        ):
            raise InputError(source, place, "finite numbers", "NaN or infinity")


# ---------------------------------------------------------------- private


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _texts(source: str, field: str, value: object, count_max: int) -> tuple[str, ...]:
    listed = check_list(source, field, value, of="texts", most=count_max)
    return tuple(check_text(source, field, item, chars_max=NAME_CHARS_MAX) for item in listed)


def _datatype(value: TensorValue) -> str:
    if isinstance(value, tuple):
        return "BYTES"
    return next((name for name, dtype in DATATYPES.items() if dtype == value.dtype), "unknown")


def _encode_tensors(
    tensors: Mapping[str, TensorValue], *, binary: bool = True
) -> tuple[list[dict[str, object]], list[bytes]]:
    entries: list[dict[str, object]] = []
    chunks: list[bytes] = []
    for name, value in tensors.items():
        entry: dict[str, object] = {"name": name, "datatype": _datatype(value)}
        if isinstance(value, tuple):
            entry["shape"] = [len(value)]
            chunk = b"".join(len(item).to_bytes(4, "little") + item for item in value)
        else:
            entry["shape"] = list(value.shape)
            dtype = DATATYPES[_datatype(value)]
            chunk = np.ascontiguousarray(value, dtype=dtype).tobytes() if binary else b""
        if binary:
            entry["parameters"] = {"binary_data_size": len(chunk)}
            chunks.append(chunk)
        else:
            assert isinstance(value, np.ndarray), "BYTES tensors are only ever sent binary"
            entry["data"] = value.ravel().tolist()
        entries.append(entry)
    return entries, chunks


def _join(head: Mapping[str, object], chunks: list[bytes]) -> tuple[bytes, int]:
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return b"".join([text, *chunks]), len(text)


def _split(
    source: str, body: bytes, header_length: str | None
) -> tuple[dict[str, object], memoryview]:
    """The JSON header and the bytes after it."""
    length = len(body)
    if header_length is not None:
        digits = header_length.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
            raise InputError(source, HEADER_LENGTH, "a number of bytes", shown(header_length))
        length = int(digits)
        if length > len(body):
            raise InputError(
                source, HEADER_LENGTH, f"at most the body's {len(body)} bytes", str(length)
            )
    # Without binary tensors the JSON holds them, so it may be as large as a body.
    bytes_max = BODY_BYTES_MAX if header_length is None else HEADER_BYTES_MAX
    return read_object(source, body[:length], bytes_max), memoryview(body)[length:]


def _decode_tensors(
    source: str, field: str, value: object, rest: memoryview
) -> dict[str, TensorValue]:
    listed = check_list(source, field, value, of="tensors", least=1, most=TENSORS_MAX)
    tensors: dict[str, TensorValue] = {}
    offset = 0
    for index, item in enumerate(listed):
        entry = check_table(source, f"{field}[{index}]", item, kind=JSON_OBJECT)
        name = check_text(
            source, f"{field}[{index}].name", entry.get("name"), chars_max=NAME_CHARS_MAX
        )
        place = f"{field}.{name}"
        if name in tensors:
            raise InputError(source, place, "each tensor once", "it twice")
        shape = _shape(source, place, entry.get("shape"))
        parameters = check_table(
            source, f"{place}.parameters", entry.get("parameters", {}), kind=JSON_OBJECT
        )
        size = parameters.get("binary_data_size")
        if size is None:
            tensors[name] = _from_json(source, place, entry, shape)
            continue
        size = check_whole(source, f"{place}.binary_data_size", size, least=0, most=BODY_BYTES_MAX)
        chunk = rest[offset : offset + size]
        if len(chunk) != size:
            raise InputError(source, place, f"{size} bytes", f"{len(chunk)} bytes")
        offset += size
        tensors[name] = _from_bytes(source, place, entry.get("datatype"), shape, chunk)
    if offset != len(rest):
        raise InputError(source, field, f"{offset} bytes of tensors", f"{len(rest)} bytes")
    return tensors


def _shape(source: str, place: str, value: object) -> tuple[int, ...]:
    sizes = check_list(source, f"{place}.shape", value, of="sizes", most=DIMENSIONS_MAX)
    return tuple(
        check_whole(source, f"{place}.shape", size, least=0, most=BODY_BYTES_MAX) for size in sizes
    )


def _from_bytes(
    source: str, place: str, datatype: object, shape: tuple[int, ...], chunk: memoryview
) -> TensorValue:
    count = math.prod(shape)
    if datatype == "BYTES":
        return _elements(source, place, count, chunk)
    dtype = _dtype(source, place, datatype)
    if count * dtype.itemsize != len(chunk):
        raise InputError(
            source,
            place,
            f"{count * dtype.itemsize} bytes for shape {list(shape)}",
            f"{len(chunk)} bytes",
        )
    return np.frombuffer(chunk, dtype=dtype).reshape(shape)


def _elements(source: str, place: str, count: int, chunk: memoryview) -> tuple[bytes, ...]:
    """Elements of a BYTES tensor: each four bytes of length, then its content."""
    items: list[bytes] = []
    offset = 0
    while offset < len(chunk):
        start = offset + 4
        end = start + int.from_bytes(chunk[offset:start], "little")
        if start > len(chunk) or end > len(chunk):
            raise InputError(source, place, "whole elements", "a truncated one")
        items.append(bytes(chunk[start:end]))
        offset = end
        if len(items) > count:
            break
    if len(items) != count:
        raise InputError(source, place, f"{count} elements", f"another number ({len(items)})")
    return tuple(items)


def _from_json(
    source: str, place: str, entry: Mapping[str, object], shape: tuple[int, ...]
) -> TensorValue:
    if entry.get("datatype") == "BYTES":
        raise InputError(source, place, "BYTES as a binary tensor", "JSON data")
    dtype = _dtype(source, place, entry.get("datatype"))
    data = entry.get("data")
    try:
        # Overflow of a type is an error here, not a wrap or an infinity.
        with np.errstate(over="raise"):
            array = np.array(data, dtype=np.float64)
            if dtype.kind == "i":
                low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
                if not ((array == np.rint(array)) & (low <= array) & (array <= high)).all():
                    raise ValueError(f"not whole numbers from {low} to {high}")
            return array.astype(dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError, FloatingPointError) as error:
        raise InputError(
            source, f"{place}.data", f"numbers for shape {list(shape)}", str(error)[:80]
        ) from None


def _dtype(source: str, place: str, datatype: object) -> np.dtype[Any]:
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise InputError(
            source, f"{place}.datatype", f"BYTES or one of {sorted(DATATYPES)}", shown(datatype)
        )
    return dtype


def _wants_binary(
    source: str, head: Mapping[str, object], parameters: Mapping[str, object]
) -> bool:
    """Whether the client asks for binary outputs: for all, or for the one there is."""
    outputs = check_list(source, "outputs", head.get("outputs", []), of="outputs", most=TENSORS_MAX)
    asked = parameters.get("binary_data_output", False)
    for index, item in enumerate(outputs):
        entry = check_table(source, f"outputs[{index}]", item, kind=JSON_OBJECT)
        extra = check_table(
            source, f"outputs[{index}].parameters", entry.get("parameters", {}), kind=JSON_OBJECT
        )
        if "binary_data" in extra:
            asked = extra["binary_data"]
    return asked is True
