"""Inputs that are nearly right: bytes, texts, and trees of JSON changed here and there."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

CHANGES_MAX = 4
GROWN_BYTES_MAX = 300_000

NUMBERS = (
    "0",
    "-0",
    "-1",
    "1e400",
    "1e-400",
    "9" * 400,
    "2147483648",
    "1.5",
    "0x1p4",
    "nan",
    "inf",
)
WORDS = (
    "",
    "null",
    "true",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    "\\",
    ",",
    ":",
    "=",
    "#",
    "\n",
    "\r",
    "é",
)
MORE_WORDS = (
    "\x00",
    "\ufeff",
    "\u202e",
    "\ud7ff",
    "NaN",
    "Infinity",
    "[[",
    "]]",
    "'''",
    '"""',
    ";",
)

NODES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**60, 0.5, -0.0, 1e308, 5e-324,
    "", "x", "é", "\x00", "\ud800", "a" * 5000, "1", "nan", [], {}, [[]], [None], [[1], 2],
    {"": {}}, [0] * 2000,
)  # fmt: skip

BYTES = (b"\x00", b"\xff", b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00")


def changed_bytes(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with some of its bytes changed, left out, doubled, or from another seed."""
    content = bytearray(draws.choice(seeds))
    for _ in range(draws.randint(1, CHANGES_MAX)):
        size = len(content)
        at = draws.randint(0, size)
        match draws.randrange(8):
            case 0 if size:
                content[at % size] ^= 1 << draws.randrange(8)
            case 1 if size:
                content[at % size] = draws.randrange(256)
            case 2:
                content[at:at] = draws.choice(BYTES)
            case 3:
                piece = draws.choice(BYTES)
                content[at : at + len(piece)] = piece
            case 4:
                del content[at : at + draws.choice((1, 2, 4, 16, 256))]
            case 5:
                del content[at:]
            case 6:
                piece = bytes(content[at : at + draws.choice((1, 4, 64))])
                content[at:at] = bytes(piece) * draws.choice((1, 2, 50))
            case _:
                other = draws.choice(seeds)
                cut = draws.randint(0, len(other))
                content[at : at + 64] = other[cut : cut + draws.choice((4, 64, 1024))]
    return bytes(content[:GROWN_BYTES_MAX])


def changed_text(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with some of its numbers and words replaced, and lines left out or doubled."""
    text = draws.choice(seeds).decode("utf-8", errors="replace")
    for _ in range(draws.randint(1, CHANGES_MAX)):
        at = draws.randint(0, len(text))
        end = at
        while end < len(text) and (text[end].isalnum() or text[end] in "._-"):
            end += 1
        match draws.randrange(6):
            case 0 | 1:
                text = text[:at] + draws.choice(NUMBERS) + text[end:]
            case 2:
                text = text[:at] + draws.choice(WORDS + MORE_WORDS) + text[end:]
            case 3:
                lines = text.split("\n")
                line = draws.randrange(len(lines))
                lines[line : line + 1] = [lines[line]] * draws.choice((0, 2))
                text = "\n".join(lines)
            case 4:
                lines = text.split("\n")
                other = draws.choice(seeds).decode("utf-8", errors="replace").split("\n")
                lines.insert(draws.randint(0, len(lines)), draws.choice(other))
                text = "\n".join(lines)
            case _:
                text = text[:at] + text[end:]
    return text[:GROWN_BYTES_MAX].encode("utf-8", errors="replace")


def changed_json(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed of JSON of which nodes are replaced, left out, or said twice."""
    tree = json.loads(draws.choice(seeds))
    for _ in range(draws.randint(1, CHANGES_MAX)):
        tree = _changed(draws, tree)
    return json.dumps(tree, ensure_ascii=draws.random() < 0.5).encode("utf-8", "surrogatepass")


def _changed(draws: random.Random, node: Any) -> Any:
    """A tree with one of its nodes changed."""
    if isinstance(node, dict) and node and draws.random() < 0.85:
        name = draws.choice(list(node))
        match draws.randrange(10):
            case 0:
                return {key: value for key, value in node.items() if key != name}
            case 1:
                return {**node, draws.choice(("", "x", "é", name + "s")): node[name]}
            case _:
                return {**node, name: _changed(draws, node[name])}
    if isinstance(node, list) and node and draws.random() < 0.85:
        at = draws.randrange(len(node))
        match draws.randrange(8):
            case 0:
                return node[:at] + node[at + 1 :]
            case 1:
                return node[:at] + [node[at]] * draws.choice((2, 20)) + node[at + 1 :]
            case _:
                return [*node[:at], _changed(draws, node[at]), *node[at + 1 :]]
    return draws.choice(NODES)


Mutation = Callable[[random.Random, Sequence[bytes]], bytes]


def mixed(*ways: Mutation) -> Mutation:
    """One of several ways each time."""

    def change(draws: random.Random, seeds: Sequence[bytes]) -> bytes:
        return draws.choice(ways)(draws, seeds)

    return change
