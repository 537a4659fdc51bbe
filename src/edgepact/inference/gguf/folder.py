"""A folder of a language model's stages: what it says of itself, and whether it is whole."""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, shown
from edgepact.inference.gguf.llama import BLOCKS_MAX, LlamaSizes

MODEL_JSON = "model.json"
TOKENIZER_JSON = "tokenizer.json"
WEIGHTS = "weights.bin"

FORMAT = 3
"""Of the folder; folders of another are written anew."""

JSON_BYTES_MAX = 16 << 20


def stage_path(folder: Path, stage: int) -> Path:
    """Where a folder keeps a stage: embed is 0, blocks come from 1, the head is last."""
    return folder / f"stage_{stage:02d}.onnx"


def attention_path(folder: Path) -> Path:
    """Where a folder keeps the attention of a block, the same for all."""
    return folder / "attention.onnx"


def around_path(folder: Path, stage: int, *, behind: bool) -> Path:
    """Where a folder keeps what a block computes before its attention, or behind it."""
    return folder / f"stage_{stage:02d}_{'behind' if behind else 'before'}.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """What `model.json` says.

    Attributes:
        folder: where it lies.
        sizes: of the model.
        rows_max: most tokens of a text, prompt included.
        begins: token that every text begins with; None for none.
        ends: tokens that end a text.
        template: of chats, in Jinja; empty where there is none.
        rest_macs_per_stage: multiplications of a token beside `LlamaSizes.macs_per_stage`.
        digest: SHA-256 of all that decides its answers, hexadecimal.
    """

    folder: Path
    sizes: LlamaSizes
    rows_max: int
    begins: int | None
    ends: tuple[int, ...]
    template: str
    rest_macs_per_stage: tuple[int, ...]
    digest: str

    @property
    def stages(self) -> int:
        """Embed, blocks, head."""
        return self.sizes.blocks + 2

    def macs_per_stage(self, attended: int) -> tuple[int, ...]:
        """Multiplications of a token in each stage, as `LlamaSizes.macs_per_stage`, all counted."""
        counts = self.sizes.macs_per_stage(attended)
        return tuple(map(sum, zip(counts, self.rest_macs_per_stage, strict=True)))


def read_text_model(folder: Path) -> TextModel:
    """Reads a folder that `stages.write_stages` made.

    Raises:
        InputError: it is none, was changed, or is damaged.
    """
    path = folder / MODEL_JSON
    try:
        if path.stat().st_size > JSON_BYTES_MAX:
            raise InputError(path, "", f"at most {JSON_BYTES_MAX} bytes", path.stat().st_size)
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        found = error.strerror or "none"
        raise InputError(path, "", "stages of a language model", found) from None
    except (ValueError, RecursionError):
        raise InputError(path, "", "JSON", "other text") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        found = shown(table.get("format") if isinstance(table, dict) else None)
        raise InputError(path, "format", f"{FORMAT}, stages of a language model", found)
    sizes = LlamaSizes(**{each.name: _typed(path, table, each) for each in fields(LlamaSizes)})
    for name in ("weights_sha256", "tokenizer_sha256"):
        file = WEIGHTS if name.startswith("weights") else TOKENIZER_JSON
        found = _digest(folder / file)
        if table.get(name) != found:
            expected = f"{found} of {file}, which is damaged or another model's"
            raise InputError(path, name, expected, shown(table.get(name)))
    if sizes.blocks > BLOCKS_MAX:
        raise InputError(path, "blocks", f"at most {BLOCKS_MAX}", sizes.blocks)
    begins: Any = table.get("begins")
    ends: Any = table.get("ends")
    rows: Any = table.get("rows_max")
    template: Any = table.get("template")
    rest: Any = table.get("rest_macs_per_stage")
    for field, fits, expected, value in (
        ("rows_max", type(rows) is int and rows > 0, "a whole number above 0", rows),
        ("begins", begins is None or _is_token(begins, sizes), "a token or null", begins),
        (
            "ends",
            isinstance(ends, list) and all(_is_token(each, sizes) for each in ends),
            "a list of tokens",
            ends,
        ),
        ("template", isinstance(template, str), "a text", template),
        (
            "rest_macs_per_stage",
            isinstance(rest, list)
            and len(rest) == sizes.blocks + 2
            and all(type(each) is int and each >= 0 for each in rest),
            f"{sizes.blocks + 2} whole numbers",
            rest,
        ),
    ):
        if not fits:
            raise InputError(path, field, expected, shown(value))
    # What a tool writes of a file beside what it computes is left out.
    counted = {name: value for name, value in table.items() if name != "name"}
    digest = hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()
    return TextModel(
        folder=folder,
        sizes=sizes,
        rows_max=rows,
        begins=begins,
        ends=tuple(ends),
        template=template,
        rest_macs_per_stage=tuple(rest),
        digest=digest,
    )


# ---------------------------------------------------------------- private


def _typed(path: Path, table: dict[str, Any], field: Any) -> Any:
    value: Any = table.get(field.name)
    kind = field.type
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise InputError(path, field.name, f"a value of type {kind.__name__}", shown(value))
    if kind in (int, float) and not (value > 0 and math.isfinite(value)):
        raise InputError(path, field.name, "a number above 0", shown(value))
    return value


def _is_token(value: object, sizes: LlamaSizes) -> bool:
    return type(value) is int and 0 <= value < sizes.vocabulary


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(path, "", "a file of the model", error.strerror or "none") from None
