"""Texts as the token ids of a checkpoint: its own tokenizer, by the library `tokenizers`."""

import string
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from edgepact.errors import InputError, MissingExtraError, shown
from edgepact.inference.checkpoints.stored import read_json

TOKENIZER = "tokenizer.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"
MERGES_BYTES_MAX = 2**24

_START, _END = "<|startoftext|>", "<|endoftext|>"
_SIGLIP_PADDING = 1
_PARTS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokens:
    """The tokenizer of a checkpoint's folder: `tokenizer.json`, or CLIP's `vocab.json` and
    `merges.txt`.

    Args:
        folder: of the checkpoint.
        family: whose texts they are. SigLIP's are in small letters, without punctuation.
        length: of the rows that come out.
        vocabulary: how many ids the text tower knows.

    Raises:
        InputError: there is no tokenizer, or it is damaged.
        MissingExtraError: the library is not installed.
    """

    def __init__(
        self, folder: Path, family: Literal["clip", "siglip"], *, length: int, vocabulary: int
    ) -> None:
        try:
            import tokenizers
        except ImportError:
            raise MissingExtraError("reading the texts of a checkpoint", "clip") from None
        self._folder, self._family = folder, family
        self._length, self._vocabulary = length, vocabulary
        if (folder / TOKENIZER).is_file():
            read_json(folder / TOKENIZER)  # bounded, and said better
            try:
                self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
            except Exception as error:  # whatever its parser raises
                raise InputError(folder / TOKENIZER, "", "a tokenizer", str(error)) from None
        elif family == "clip" and (folder / VOCABULARY).is_file():
            self._tokenizer = _clip_tokenizer(folder)
        else:
            raise InputError(folder, "", f"{TOKENIZER} in it", "none")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def rows(self, texts: list[str]) -> Int64[np.ndarray, "texts length"]:
        """Token ids of texts, padded.

        Raises:
            InputError: a text is longer than the tower reads, or has an id that it does not know.
        """
        padding = _SIGLIP_PADDING if self._family == "siglip" else 0
        rows = np.full((len(texts), self._length), padding, np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = self._tokenizer.encode(self._plain(text)).ids
            if not 0 < len(ids) <= self._length:
                expected = f"a text of 1 to {self._length} tokens"
                raise InputError("text", shown(text), expected, f"{len(ids)} tokens")
            if max(ids) >= self._vocabulary:
                expected = f"ids below {self._vocabulary}, as the text tower has"
                raise InputError(self._folder, "tokenizer", expected, max(ids))
            row[: len(ids)] = ids
        return rows

    def _plain(self, text: str) -> str:
        if self._family == "clip":
            return text
        kept = text.translate(str.maketrans("", "", string.punctuation))
        return " ".join(kept.lower().split())


# ---------------------------------------------------------------- private


def _clip_tokenizer(folder: Path) -> Any:
    """CLIP's byte-level BPE from its two older files."""
    from tokenizers import (
        Regex,
        Tokenizer,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    vocabulary, merges = read_json(folder / VOCABULARY), _merges(folder / MERGES)
    for token in (_START, _END):
        if not isinstance(vocabulary.get(token), int):
            raise InputError(folder / VOCABULARY, token, "its id", shown(vocabulary.get(token)))
    try:
        model = models.BPE(
            vocabulary,
            merges,
            unk_token=_END,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    except Exception as error:  # whatever the library raises
        raise InputError(folder / MERGES, "", f"merges of {VOCABULARY}", str(error)) from None
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PARTS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    ends = [(token, vocabulary[token]) for token in (_START, _END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=ends
    )
    return tokenizer


def _merges(path: Path) -> list[tuple[str, str]]:
    expected = "two symbols in each line"
    try:
        with path.open("rb") as file:
            content = file.read(MERGES_BYTES_MAX + 1)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "", expected, str(error)[:200]) from None
    if len(content) > MERGES_BYTES_MAX:
        raise InputError(path, "", f"at most {MERGES_BYTES_MAX} bytes", "more")
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#version"):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise InputError(path, f"line {number}", expected, shown(line))
        found.append((parts[0], parts[1]))
    return found
