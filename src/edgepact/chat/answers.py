"""OpenAI's shapes: completions, chat completions, their streams, and errors."""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from edgepact.inference.sampling import Drawn

TYPES = {401: "authentication_error", 429: "rate_limit_error"}
"""Types of errors that are neither the request's nor the server's."""


class RefusalError(Exception):
    """A request is refused.

    Args:
        status: of HTTP.
        message: what is wrong.
        param: the field that is, if it is one.
        code: by which programs tell it.
        after_s: when to come again, seconds.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.after_s = status, param, code, after_s

    def as_json(self) -> dict[str, Any]:
        """The body."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "")
        told = {
            "message": str(self),
            "type": kind or "invalid_request_error",
            "param": self.param,
            "code": self.code,
        }
        return {"error": told}

    def response(self) -> JSONResponse:
        """The answer."""
        headers = {} if self.after_s is None else {"Retry-After": str(self.after_s)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.as_json(), self.status, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Makes the answers to one request.

    Attributes:
        chat: whether it is a chat's.
        model: name of the model.
        logprobs: whether they are told.
        alternatives: of how many of the likeliest tokens.
        text_of: the text of one token.
        id, created: of the answer.
    """

    chat: bool
    model: str
    logprobs: bool
    alternatives: int
    text_of: Callable[[int], str]
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self, text: str, tokens: Sequence[Drawn], reason: str, usage: Mapping[str, int]
    ) -> dict[str, Any]:
        """The answer in one piece."""
        choice = {"index": 0, "logprobs": self._logprobs(tokens, 0), "finish_reason": reason}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": dict(usage)}

    def part(
        self, text: str, tokens: Sequence[Drawn], at: int, *, reason: str | None = None
    ) -> bytes:
        """A part of a stream.

        Args:
            text: that is new.
            tokens: that are.
            at: characters of the tokens before.
            reason: why it is the last; None if it is not.
        """
        choice = {"index": 0, "logprobs": self._logprobs(tokens, at), "finish_reason": reason}
        if self.chat:
            choice["delta"] = {"content": text} if text else {}
        else:
            choice["text"] = text
        return self._event([choice])

    def opening(self) -> bytes:
        """The first part of a chat's stream: who speaks."""
        delta = {"role": "assistant", "content": ""}
        return self._event([{"index": 0, "delta": delta, "finish_reason": None}])

    def usage(self, usage: Mapping[str, int]) -> bytes:
        """What it took, as a stream's last part."""
        return self._event([], usage=dict(usage))

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return event({**self._head(kind), "choices": choices, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        name = f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}"
        return {"id": name, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, tokens: Sequence[Drawn], at: int) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        if self.chat:
            content = [
                {
                    **self._likely(each.token, each.logprob),
                    "top_logprobs": [
                        self._likely(token, value)
                        for token, value in each.likeliest[: self.alternatives]
                    ],
                }
                for each in tokens
            ]
            return {"content": content, "refusal": None}
        texts = [self.text_of(each.token) for each in tokens]
        offsets = [at + sum(map(len, texts[:place])) for place in range(len(texts))]
        return {
            "tokens": texts,
            "token_logprobs": [each.logprob for each in tokens],
            "top_logprobs": [
                {self.text_of(token): value for token, value in each.likeliest[: self.alternatives]}
                for each in tokens
            ],
            "text_offset": offsets,
        }

    def _likely(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.text_of(token)
        # Of a part of a character nobody here knows the bytes.
        known = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": logprob, "bytes": known}


def event(told: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(told).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
"""The end of a stream."""
