"""Texts to tokens and back, as a GGUF file's `tokenizer.ggml.*` says; chats by its own template.

Byte-level BPE (`gpt2`) is what is known; the pattern that texts are parted by is named in
`tokenizer.ggml.pre`. Another kind is refused by name: near misses would cost quality silently.

Chats are made to texts by `chat`.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgepact.errors import InputError, MissingExtraError
from edgepact.inference.gguf.chat import TEMPLATE_CHARS_MAX, chat_text
from edgepact.inference.gguf.file import GgufFile
from edgepact.inference.gguf.folder import TOKENIZER_JSON, TextModel

PATTERNS = {
    "gpt-2": (False, None),
    "default": (False, None),
    "smollm": (True, None),
    "qwen2": (
        False,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "llama-bpe": (
        False,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""By the name in `tokenizer.ggml.pre`: whether digits stand alone first, and a pattern instead of
GPT-2's."""

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that a text holds as they are."""


def tokenizer_json(file: GgufFile) -> str:
    """The tokenizer of a file, in the format of the `tokenizers` package.

    Raises:
        InputError: it is of a kind that is not known, or its lists do not fit each other.
        MissingExtraError: `tokenizers` is not installed.
    """
    try:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    except ImportError:
        raise MissingExtraError("the job text", "text") from None
    kind = file.text("tokenizer.ggml.model")
    if kind != "gpt2":
        raise InputError(file.path, "tokenizer.ggml.model", "'gpt2', byte-level BPE", kind)
    pre = file.text("tokenizer.ggml.pre", "default")
    if pre not in PATTERNS:
        raise InputError(file.path, "tokenizer.ggml.pre", f"one of {', '.join(PATTERNS)}", f"{pre}")
    tokens = file.texts("tokenizer.ggml.tokens")
    merges = file.texts("tokenizer.ggml.merges")
    vocabulary = {token: at for at, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens) or not tokens:
        expected = "tokens that differ, at least one"
        raise InputError(file.path, "tokenizer.ggml.tokens", expected, f"{len(tokens)} of them")
    pairs = []
    for at, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            field = f"tokenizer.ggml.merges[{at}]"
            raise InputError(file.path, field, "two tokens that make a third", merge[:60])
        pairs.append((left, right))
    types = file.facts.get("tokenizer.ggml.token_type", np.empty(0))
    if not isinstance(types, np.ndarray) or len(types) not in (0, len(tokens)):
        expected = f"a list of {len(tokens)} numbers"
        raise InputError(file.path, "tokenizer.ggml.token_type", expected, "another")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, fuse_unk=False))
    digits, pattern = PATTERNS[pre]
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern is None:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    else:
        steps.append(pre_tokenizers.Split(Regex(pattern), behavior="isolated"))
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    for marked, special in ((CONTROL, True), (USER_DEFINED, False)):
        tokenizer.add_tokens(
            [
                AddedToken(token, special=special, normalized=False)
                for token, its in zip(tokens, types, strict=False)
                if its == marked
            ]
        )
    return str(tokenizer.to_str())


def chat_facts(file: GgufFile) -> dict[str, Any]:
    """What `model.json` says of texts: the tokens that begin and end them, the template of chats.

    Raises:
        InputError: a token is none, or the template is too long.
    """
    most = len(file.texts("tokenizer.ggml.tokens")) - 1
    names = ("eos_token_id", "eot_token_id", "eom_token_id")
    ends = [
        file.whole(f"tokenizer.ggml.{name}", least=0, most=most)
        for name in names
        if f"tokenizer.ggml.{name}" in file.facts
    ]
    begins = None
    if file.yes("tokenizer.ggml.add_bos_token", False):
        begins = file.whole("tokenizer.ggml.bos_token_id", least=0, most=most)
    template = file.text("tokenizer.chat_template", "")
    if len(template) > TEMPLATE_CHARS_MAX:
        expected = f"at most {TEMPLATE_CHARS_MAX} characters"
        raise InputError(file.path, "tokenizer.chat_template", expected, len(template))
    return {"begins": begins, "ends": sorted(set(ends)), "template": template}


class TextTokenizer:
    """The tokenizer of a model's folder.

    Args:
        model: the model.

    Raises:
        InputError: its file cannot be read.
        MissingExtraError: `tokenizers` is not installed.
    """

    def __init__(self, model: TextModel) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtraError("the job text", "text") from None
        path = model.folder / TOKENIZER_JSON
        try:
            self._inner = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises plain ones
            raise InputError(path, "", "a tokenizer", f"{error}"[:200]) from None
        # The same, but that a mark is text like any other.
        self._plain = Tokenizer.from_file(str(path))
        self._plain.encode_special_tokens = True
        added = self._inner.get_added_tokens_decoder().values()
        marks = sorted((each.content for each in added if each.special), key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, marks)) or r"(?!)")
        self._model = model

    def tokens(self, text: str) -> list[int]:
        """Tokens of a text, the one that begins it included if the model wants one. Marks such as
        `<|im_end|>` in it become the tokens that they name."""
        begins = [] if self._model.begins is None else [self._model.begins]
        return begins + list(self._inner.encode(text, add_special_tokens=False).ids)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens; marks are left out. A character that is not whole yet shows as
        `\\ufffd`."""
        return str(self._inner.decode(list(tokens), skip_special_tokens=True))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Tokens of a chat, up to where the model is to speak.

        Marks such as `<|im_end|>` in what was said are text like any other: who speaks is for the
        template to say.

        Args:
            messages: each with `role` and `content`.

        Raises:
            InputError: the model has no template, the messages are too long, or the template
                cannot be run.
            MissingExtraError: `jinja2` is not installed.
        """
        key = f"\ue000{secrets.token_hex(8)}:"  # which nobody has said
        marks: list[str] = []

        def standing_in(found: re.Match[str]) -> str:
            marks.append(found[0])
            return f"{key}{len(marks) - 1}\ue001"

        said = [
            {**each, "content": self._marks.sub(standing_in, str(each["content"]))}
            for each in messages
        ]
        text = chat_text(self._model.template, said, source=self._model.folder)
        if not marks:
            return self.tokens(text)
        tokens = [] if self._model.begins is None else [self._model.begins]
        for at, part in enumerate(re.split(f"{re.escape(key)}([0-9]+)\ue001", text)):
            plain = self._plain if at % 2 else self._inner
            part = marks[int(part)] if at % 2 else part
            tokens += plain.encode(part, add_special_tokens=False).ids
        return tokens
