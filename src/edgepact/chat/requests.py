"""What a client asks for: JSON of bounded size, every field checked."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgepact.chat.answers import RefusalError
from edgepact.errors import InputError, shown
from edgepact.inference.sampling import ALTERNATIVES_MAX
from edgepact.jobs.text.device import TextDevice
from edgepact.jobs.text.prompts import TextSettings
from edgepact.market.json_bounds import check_json
from edgepact.settings import SEED_MAX

STOPS_MAX = 4
STOP_CHARS_MAX = 256

COMPLETION_TOKENS = 16
"""Of a completion that does not say how many, as OpenAI has it."""

LEAST_TOP_P = 1e-6
"""Stands for 0, which OpenAI allows: the likeliest token alone."""

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

# What would change the answer, and is not done; with the values that change nothing.
_NOT_DONE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "audio": (),
    "modalities": (["text"],),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A text that is asked for.

    Attributes:
        chat: whether as a chat's next message.
        tokens: of the prompt.
        settings: how the text goes on.
        stops: texts that end it and are left out.
        stream: whether it is told as it grows.
        usage: whether a stream ends with what it took.
        logprobs: whether probabilities are told.
    """

    chat: bool
    tokens: tuple[int, ...]
    settings: TextSettings
    stops: tuple[str, ...]
    stream: bool
    usage: bool
    logprobs: bool


def read_json(content: bytes) -> dict[str, Any]:
    """The body of a request.

    Raises:
        RefusalError: it is none.
    """
    try:
        check_json("request", content)
        found = json.loads(content, parse_constant=_no_constant)
    except InputError as error:
        raise RefusalError(400, str(error)) from None
    except (ValueError, RecursionError):
        raise RefusalError(400, "expected a body of JSON") from None
    if not isinstance(found, dict):
        raise RefusalError(400, "expected a JSON object")
    return found


def read_wish(body: Mapping[str, Any], part: TextDevice, *, chat: bool) -> Wish:
    """What the body asks for.

    Raises:
        RefusalError: it asks for what is not done, or a field is wrong.
    """
    _expect_model(body, part)
    for name, fine in _NOT_DONE.items():
        if body.get(name) is not None and body[name] not in fine:
            raise RefusalError(400, f"{name} is not supported here", param=name)
    tokens = _chat_tokens(body, part) if chat else _prompt_tokens(body, part)
    most = part.text_model.rows_max - 1
    if len(tokens) > most:
        raise RefusalError(
            400,
            f"the prompt has {len(tokens)} tokens, and this model's longest text is {most + 1}",
            param="messages" if chat else "prompt",
            code="context_length_exceeded",
        )
    logprobs, alternatives = _logprobs(body, chat=chat)
    own = part.settings
    name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else ""
    asked = _whole(body, name or "max_tokens", 1, 2**31)
    if asked is None:
        asked = own.tokens_max if chat else COMPLETION_TOKENS
    seed = _whole(body, "seed", -(2**63), 2**63)
    top_p = _number(body, "top_p", 1.0)
    temperature = _number(body, "temperature", 2.0)
    top_k = _whole(body, "top_k", 0, 1 << 20)
    settings = replace(
        own,
        # Whoever wants more than the device may ask for hears that the length has ended it.
        tokens_max=min(asked, own.tokens_max, most + 1 - len(tokens)),
        temperature=own.temperature if temperature is None else temperature,
        top_p=own.top_p if top_p is None else max(top_p, LEAST_TOP_P),
        top_k=own.top_k if top_k is None else top_k,
        alternatives=alternatives,
        seed=-1 if seed is None else seed % (SEED_MAX + 1),
    )
    return Wish(
        chat=chat,
        tokens=tokens,
        settings=settings,
        stops=_stops(body),
        stream=_yes(body, "stream"),
        usage=_yes(_object(body, "stream_options"), "include_usage"),
        logprobs=logprobs,
    )


# ---------------------------------------------------------------- private


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _wrong(name: str, expected: str, found: object) -> RefusalError:
    return RefusalError(400, f"{name}: expected {expected}, found {shown(found)}", param=name)


def _expect_model(body: Mapping[str, Any], part: TextDevice) -> None:
    asked, own = body.get("model"), part.model.name
    if not isinstance(asked, str):
        raise _wrong("model", "the name of a model", asked)
    if asked != own:
        words = f"there is no model {shown(asked)} here, but {own}"
        raise RefusalError(404, words, param="model", code="model_not_found")


def _prompt_tokens(body: Mapping[str, Any], part: TextDevice) -> tuple[int, ...]:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        (prompt,) = prompt
    if isinstance(prompt, str) and prompt:
        _expect_text("prompt", prompt)
        tokens = part.tokenizer.tokens(prompt)
        if tokens:
            return tuple(tokens)
    known = part.text_model.sizes.vocabulary
    numbers = prompt if isinstance(prompt, list) else []
    if numbers and all(type(each) is int and 0 <= each < known for each in numbers):
        return tuple(numbers)
    raise _wrong("prompt", "one text, or its tokens, not empty", prompt)


def _chat_tokens(body: Mapping[str, Any], part: TextDevice) -> tuple[int, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a list of messages", messages)
    said = []
    for at, each in enumerate(messages):
        place = f"messages[{at}]"
        if not isinstance(each, dict):
            raise _wrong(place, "an object with role and content", each)
        role = each.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise _wrong(f"{place}.role", f"one of {', '.join(ROLES)}", role)
        said.append({"role": ROLES[role], "content": _content(f"{place}.content", each)})
    try:
        return tuple(part.tokenizer.chat(said))
    except InputError as error:
        # Where the model lies is no business of whoever asks.
        words = f"{error.field}: expected {error.expected}, found {error.found}"
        raise RefusalError(400, words, param="messages") from None


def _content(place: str, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return _expect_text(place, content)
    if isinstance(content, list):
        texts = [
            each.get("text") if isinstance(each, dict) and each.get("type") == "text" else None
            for each in content
        ]
        if all(isinstance(each, str) for each in texts):
            return _expect_text(place, "".join(each for each in texts if each))
    raise _wrong(place, "a text, or a list of parts that are texts", content)


def _expect_text(place: str, text: str) -> str:
    """Refuses half of a surrogate pair, which JSON can spell and which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _wrong(place, "a text of whole characters", text) from None
    return text


def _logprobs(body: Mapping[str, Any], *, chat: bool) -> tuple[bool, int]:
    if chat:
        told = _yes(body, "logprobs")
        most = _whole(body, "top_logprobs", 0, ALTERNATIVES_MAX)
        if most is not None and not told:
            raise _wrong("top_logprobs", "it beside logprobs = true", most)
        return told, most or 0
    count = _whole(body, "logprobs", 0, 5)
    return count is not None, count or 0


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    stops = body.get("stop")
    if stops is None:
        return ()
    found = [stops] if isinstance(stops, str) else stops
    fits = isinstance(found, list) and len(found) <= STOPS_MAX
    if not fits or not all(
        isinstance(each, str) and 1 <= len(each) <= STOP_CHARS_MAX for each in found
    ):
        expected = f"at most {STOPS_MAX} texts of 1 to {STOP_CHARS_MAX} characters"
        raise _wrong("stop", expected, stops)
    return tuple(found)


def _whole(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise _wrong(name, f"a whole number from {least} to {most}", value)
    return value


def _number(body: Mapping[str, Any], name: str, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= most):
        raise _wrong(name, f"a number from 0 to {most:g}", value)
    return float(value)


def _yes(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return bool(value)


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value or {}
