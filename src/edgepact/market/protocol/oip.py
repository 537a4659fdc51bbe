"""A job's tensors in the Open Inference Protocol v2 over REST, with its binary tensor extension.

A JSON header, then the tensors' raw little-endian bytes. Numbers that pass through JSON text or
base64 would cost more than the inference itself.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.fields import check_flag, check_list, check_table, check_text, check_whole, shown
from edgepact.market.protocol.messages import (
    JSON_OBJECT,
    MESSAGE_BYTES_MAX,
    NAME_CHARS_MAX,
    check_piece,
    read_object,
)
from edgepact.tensors import ANY, DATATYPES, TensorSpec, TensorValue, datatype_of, is_finite

UNSPOKEN = ("shared_memory_", "classification", "sequence_")
"""How parameters of the protocol's extensions begin that are refused."""

TENSORS_MAX = 16
DIMENSIONS_MAX = 8

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Largest request body: an image file, or an activation in fp32."""

BINARY_TYPE = "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"
"""HTTP header of the binary tensor extension: bytes of JSON before the tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """An inference request, decoded.

    Args:
        id: the piece's id, empty if the client gave none.
        inputs: tensors by name.
        parameters: the request's parameters.
        outputs: names of the tensors that are wanted; None for all there are.
        binary_output: whether the answer's tensors shall be binary.
        binary_of: the same of single ones, by name, where the client says so.
    """

    id: str
    inputs: dict[str, TensorValue]
    parameters: dict[str, object] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    binary_output: bool = True
    binary_of: Mapping[str, bool] = field(default_factory=dict)


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

    Raises:
        InputError: a tensor's numbers are of a type that the protocol is not spoken in here.
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
    check_parameters(source, "parameters", parameters)
    outputs, binary, binary_of = _wanted(source, head, parameters)
    return InferRequest(
        id="" if request_id == "" else check_piece(source, request_id),
        inputs=_decode_tensors(source, "inputs", head.get("inputs"), rest, least=1),
        parameters=parameters,
        outputs=outputs,
        binary_output=binary,
        binary_of=binary_of,
    )


def encode_response(
    *,
    id: str,
    model: str,
    outputs: Mapping[str, TensorValue],
    parameters: Mapping[str, object],
    binary: bool = True,
    binary_of: Mapping[str, bool] | None = None,
) -> tuple[bytes, int | None]:
    """An inference response.

    Args:
        id: of the request.
        model: name of the model.
        outputs: the tensors.
        parameters: of the response.
        binary: whether tensors are binary.
        binary_of: the same of single ones, by name.

    Returns:
        The HTTP body, and the length of its JSON part (None if it is JSON altogether).
    """
    chosen = binary_of or {}
    entries, chunks = _encode_tensors(
        outputs, binary={name: chosen.get(name, binary) for name in outputs}
    )
    head = {
        "model_name": model,
        "model_version": "1",
        "id": id,
        "parameters": dict(parameters),
        "outputs": entries,
    }
    body, length = _join(head, chunks)
    return body, length if any("parameters" in entry for entry in entries) else None


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
        outputs=_decode_tensors(source, "outputs", head.get("outputs"), rest, least=0),
        parameters=check_table(source, "parameters", head.get("parameters", {}), kind=JSON_OBJECT),
    )


def check_tensors(
    inputs: Mapping[str, TensorValue],
    specs: Sequence[TensorSpec],
    *,
    source: str = "infer request",
) -> None:
    """Holds tensors against what a model takes: names, types, shapes, finite values.

    Raises:
        InputError: names the first tensor that does not fit.
    """
    expected = sorted(spec.name for spec in specs)
    if sorted(inputs) != expected:
        raise InputError(source, "inputs", f"the tensors {expected}", str(sorted(inputs)))
    for spec in specs:
        value = inputs[spec.name]
        place = f"inputs.{spec.name}"
        datatype = datatype_of(value)
        if datatype != spec.datatype:
            raise InputError(source, place, f"data type {spec.datatype}", datatype)
        shape = (len(value),) if isinstance(value, tuple) else value.shape
        if not fits(shape, spec.shape):
            raise InputError(source, place, f"shape {list(spec.shape)}", str(list(shape)))
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not is_finite(value):
            raise InputError(source, place, "finite numbers", "NaN or infinity")


def check_outputs(wanted: Sequence[str] | None, specs: Sequence[TensorSpec]) -> None:
    """Holds the outputs that a client asks for against what a model gives.

    Raises:
        InputError: the model has no such output.
    """
    names = [spec.name for spec in specs]
    for name in wanted or ():
        if name not in names:
            raise InputError("infer request", "outputs", f"outputs of {names}", shown(name))


def check_parameters(source: str, place: str, parameters: Mapping[str, object]) -> None:
    """Expects nothing of the protocol's extensions that this server does not speak.

    Passed over in silence, they would change what comes back.

    Raises:
        InputError: shared memory, a classification or a sequence is asked for.
    """
    for name, value in parameters.items():
        spoken = not name.startswith(UNSPOKEN) or value in (None, False, 0, "")
        if not spoken:
            raise InputError(source, f"{place}.{name}", "none: it is not spoken here", shown(value))


def raw_bytes(value: TensorValue) -> bytes:
    """A tensor's raw content: little-endian numbers, or elements after their lengths."""
    if isinstance(value, tuple):
        return b"".join(len(item).to_bytes(4, "little") + item for item in value)
    return np.ascontiguousarray(value, DATATYPES[datatype_of(value)]).tobytes()


def from_raw(
    source: str, place: str, datatype: object, shape: tuple[int, ...], chunk: memoryview
) -> TensorValue:
    """A tensor from its raw content.

    Args:
        source: names the message in errors.
        place: names the tensor in errors.
        datatype: as the message says.
        shape: as the message says.
        chunk: the content.

    Raises:
        InputError: no data type that is known, or content of another size than the shape's.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _elements(source, place, count, chunk)
    dtype = _dtype(source, place, datatype)
    if count * dtype.itemsize != len(chunk):
        expected = f"{count * dtype.itemsize} bytes for shape {list(shape)}"
        raise InputError(source, place, expected, f"{len(chunk)} bytes")
    return np.frombuffer(chunk, dtype=dtype).reshape(shape)


def check_shape(source: str, place: str, value: object) -> tuple[int, ...]:
    """A tensor's shape as a message states it.

    Raises:
        InputError: no list of sizes.
    """
    sizes = check_list(source, f"{place}.shape", value, of="sizes", most=DIMENSIONS_MAX)
    return tuple(
        check_whole(source, f"{place}.shape", size, least=0, most=BODY_BYTES_MAX) for size in sizes
    )


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is the one of a spec, whose free lengths are `ANY`."""
    return len(shape) == len(wanted) and all(
        size == most or most == ANY for size, most in zip(shape, wanted, strict=True)
    )


# ---------------------------------------------------------------- private


def _encode_tensors(
    tensors: Mapping[str, TensorValue], *, binary: Mapping[str, bool] | None = None
) -> tuple[list[dict[str, object]], list[bytes]]:
    entries: list[dict[str, object]] = []
    chunks: list[bytes] = []
    for name, value in tensors.items():
        shape = [len(value)] if isinstance(value, tuple) else list(value.shape)
        datatype = datatype_of(value)
        if isinstance(value, np.ndarray) and datatype not in DATATYPES:
            expected = f"numbers of a type of {', '.join(DATATYPES)}"
            raise InputError("tensor", name, expected, str(value.dtype))
        entry: dict[str, object] = {"name": name, "datatype": datatype, "shape": shape}
        data = None if binary is None or binary[name] else _json_data(value)
        if data is None:
            chunk = raw_bytes(value)
            entry["parameters"] = {"binary_data_size": len(chunk)}
            chunks.append(chunk)
        else:
            entry["data"] = data
        entries.append(entry)
    return entries, chunks


def _json_data(value: TensorValue) -> list[object] | None:
    """A tensor's elements in a row; None for bytes that are no text, which JSON has no form for."""
    if isinstance(value, np.ndarray):
        return list(value.ravel().tolist())
    try:
        return [item.decode() for item in value]
    except UnicodeDecodeError:
        return None


_WRITER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
"""Made once: `json.dumps` would make one for each message."""


def _join(head: Mapping[str, object], chunks: list[bytes]) -> tuple[bytes, int]:
    text = _WRITER.encode(head).encode()
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
    bytes_max = BODY_BYTES_MAX if header_length is None else MESSAGE_BYTES_MAX
    return read_object(source, body[:length], bytes_max), memoryview(body)[length:]


def _decode_tensors(
    source: str, field: str, value: object, rest: memoryview, *, least: int
) -> dict[str, TensorValue]:
    listed = check_list(source, field, value, of="tensors", least=least, most=TENSORS_MAX)
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
        shape = check_shape(source, place, entry.get("shape"))
        parameters = check_table(
            source, f"{place}.parameters", entry.get("parameters", {}), kind=JSON_OBJECT
        )
        check_parameters(source, f"{place}.parameters", parameters)
        size = parameters.get("binary_data_size")
        if size is not None and "data" in entry:
            raise InputError(source, place, "either data or binary_data_size", "both")
        if size is None:
            tensors[name] = _from_json(source, place, entry, shape)
            continue
        size = check_whole(source, f"{place}.binary_data_size", size, least=0, most=BODY_BYTES_MAX)
        chunk = rest[offset : offset + size]
        if len(chunk) != size:
            raise InputError(source, place, f"{size} bytes", f"{len(chunk)} bytes")
        offset += size
        tensors[name] = from_raw(source, place, entry.get("datatype"), shape, chunk)
    if offset != len(rest):
        raise InputError(source, field, f"{offset} bytes of tensors", f"{len(rest)} bytes")
    return tensors


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
    at = f"{place}.data"
    if entry.get("datatype") == "BYTES":
        return _texts(source, at, entry.get("data"), shape)
    dtype = _dtype(source, place, entry.get("datatype"))
    shape_found, numbers = _flat(source, at, entry.get("data"))
    expected = f"numbers for shape {list(shape)}"
    # The protocol knows flat data and nested data; nested it states its own shape.
    if shape_found not in (shape, (math.prod(shape),)):
        found = f"numbers of shape {list(shape_found)}"
        raise InputError(source, at, f"{expected}, nested or flat", found)
    read = _whole if dtype.kind == "i" else _real
    return read(source, at, numbers, dtype).reshape(shape)


def _texts(source: str, at: str, data: object, shape: tuple[int, ...]) -> tuple[bytes, ...]:
    """Elements of a BYTES tensor as JSON texts, in UTF-8."""
    count = math.prod(shape)
    expected = f"{count} texts in a row; bytes that are no text travel as a binary tensor"
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise InputError(source, at, expected, shown(data))
    if len(data) != count:
        raise InputError(source, at, expected, f"{len(data)} of them")
    try:
        return tuple(item.encode() for item in data)
    except UnicodeEncodeError:
        raise InputError(source, at, expected, "half a character") from None


def _flat(source: str, at: str, data: object) -> tuple[tuple[int, ...], list[int | float]]:
    """Shape of JSON data, and its numbers in a row.

    NumPy would take texts, booleans and nulls for numbers, so that what each entry is, is asked
    here.

    Raises:
        InputError: an entry is no number, or lists are of unlike lengths or depths.
    """
    shape: list[int] = []
    level: object = data
    while isinstance(level, list):
        shape.append(len(level) if len(shape) == 0 else len(level) // math.prod(shape))
        kinds = set(map(type, level))
        if kinds <= {int, float}:
            return tuple(shape), level
        for kind, told in ((bool, "true or false"), (str, "a text"), (dict, "a table")):
            if kind in kinds:
                raise InputError(source, at, "numbers alone", told)
        if type(None) in kinds:
            raise InputError(source, at, "numbers alone", "null")
        if kinds != {list}:
            raise InputError(source, at, "lists of one depth", "numbers and lists side by side")
        lengths = set(map(len, level))
        if len(lengths) > 1:
            found = f"some of {min(lengths)} and some of {max(lengths)}"
            raise InputError(source, at, "lists of one length", found)
        if lengths == {0} or len(shape) == DIMENSIONS_MAX:
            expected = f"at most {DIMENSIONS_MAX} lists in each other, the innermost of numbers"
            raise InputError(source, at, expected, "empty ones" if lengths == {0} else "more")
        level = [each for inner in level for each in inner]
    raise InputError(source, at, "a list of numbers", shown(data))


def _real(
    source: str, at: str, numbers: list[int | float], dtype: np.dtype[Any]
) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers of a type with a point. Beyond its range is an error here, not an infinity; JSON
    has none either, but 1e400 is read as one."""
    try:
        with np.errstate(over="raise"):
            array = np.array(numbers, np.float64).astype(dtype)
        finite = bool(np.isfinite(array).all())
    except (OverflowError, FloatingPointError):
        finite = False
    if not finite:
        expected = f"numbers of a size of at most {float(np.finfo(dtype).max):g}"
        raise InputError(source, at, expected, "a larger one")
    return array


def _whole(
    source: str, at: str, numbers: list[int | float], dtype: np.dtype[Any]
) -> np.ndarray[Any, np.dtype[Any]]:
    """Whole numbers as they were written: by way of floats the largest would be rounded."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    for number in numbers:
        if not low <= number <= high or number % 1:
            raise InputError(source, at, f"whole numbers from {low} to {high}", shown(number))
    return np.array([int(number) for number in numbers], dtype)


def _dtype(source: str, place: str, datatype: object) -> np.dtype[Any]:
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise InputError(
            source, f"{place}.datatype", f"BYTES or one of {sorted(DATATYPES)}", shown(datatype)
        )
    return dtype


def _wanted(
    source: str, head: Mapping[str, object], parameters: Mapping[str, object]
) -> tuple[tuple[str, ...] | None, bool, dict[str, bool]]:
    """Which outputs the client asks for (None for all), whether as bytes, and which of them
    otherwise."""
    listed = check_list(source, "outputs", head.get("outputs", []), of="outputs", most=TENSORS_MAX)
    binary = _flag(source, "parameters", parameters, "binary_data_output", default=False)
    names: list[str] = []
    binary_of: dict[str, bool] = {}
    for index, item in enumerate(listed):
        place = f"outputs[{index}]"
        entry = check_table(source, place, item, kind=JSON_OBJECT)
        name = check_text(source, f"{place}.name", entry.get("name"), chars_max=NAME_CHARS_MAX)
        if name in names:
            raise InputError(source, f"outputs.{name}", "each output once", "it twice")
        names.append(name)
        more = entry.get("parameters", {})
        extra = check_table(source, f"{place}.parameters", more, kind=JSON_OBJECT)
        check_parameters(source, f"{place}.parameters", extra)
        if "binary_data" in extra:
            binary_of[name] = _flag(
                source, f"{place}.parameters", extra, "binary_data", default=binary
            )
    return tuple(names) or None, binary, binary_of


def _flag(
    source: str, place: str, parameters: Mapping[str, object], name: str, *, default: bool
) -> bool:
    return check_flag(source, f"{place}.{name}", parameters.get(name, default))
