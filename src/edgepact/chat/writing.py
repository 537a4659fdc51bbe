"""A text on its way: the device's threads tell tokens, whoever asked hears them as text.

Texts that end it (`stop`) are looked for where the tokens are told, so that no token too many is
generated; what may be the beginning of one is held back until it is known.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from edgepact.chat.answers import RefusalError
from edgepact.chat.requests import Wish
from edgepact.errors import InputError
from edgepact.inference.sampling import Drawn
from edgepact.jobs.text.device import TextDevice
from edgepact.jobs.text.prompts import Prompt
from edgepact.market.asked import Desk, FullError

BEGIN_S = 30.0
"""How long a request waits for its turn, and for an open round."""

WHOLE_S = 600.0
"""How long it may take in all."""

LOOK_S = 1.0
"""How often is looked whether whoever asked is still there."""

CHARACTER_TOKENS_MAX = 8
"""A character is whole after so many tokens, or is none."""


class Spelling:
    """Tokens to text, up to the first text that ends it.

    Args:
        text_of: the text of some tokens; a character that is not whole yet is `\\ufffd`.
        stops: texts that end it.

    Example:
        >>> spelling = Spelling(lambda tokens: "".join(map(chr, tokens)), ("END",))
        >>> [spelling.add(ord(each)) for each in "aEbEND."], spelling.stopped
        (['a', '', 'Eb', '', '', '', ''], True)
    """

    def __init__(self, text_of: Callable[[list[int]], str], stops: tuple[str, ...]) -> None:
        self._text_of, self._stops = text_of, stops
        self._tokens: list[int] = []
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is certain with another token, and was not before."""
        self._tokens.append(token)
        text = self._text_of(self._tokens)
        if text.endswith("\ufffd") and len(self._tokens) < CHARACTER_TOKENS_MAX:
            return ""
        self._tokens = []
        return self._told(text)

    def end(self) -> str:
        """What was held back, when no more comes."""
        text = self._told(self._text_of(self._tokens)) if self._tokens else ""
        held, self._tokens, self._held = self._held, [], ""
        return text + held

    def _told(self, text: str) -> str:
        if self.stopped:
            return ""
        held = self._held + text
        found = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        keep = max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(held) + 1))
                if held.endswith(stop[:length])
            ),
            default=0,
        )
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is new of a text.

    Attributes:
        text: that is certain now; may be empty.
        tokens: that are new.
        reason: why the text has ended: `stop` or `length`; None if it has not.
    """

    text: str = ""
    tokens: tuple[Drawn, ...] = ()
    reason: str | None = None


class Writing:
    """One request, asked of the device. For one event loop, which is running.

    Args:
        desk: of the device.
        part: its half of the job.
        wish: what is asked for.

    Raises:
        RefusalError: too many wait already.
    """

    def __init__(self, desk: Desk, part: TextDevice, wish: Wish) -> None:
        self._part, self._wish = part, wish
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Queue[Told | Exception] = asyncio.Queue()
        self._written: list[int] = []
        self._spelling = Spelling(part.tokenizer.text, wish.stops)
        self._gone = False
        self._name = secrets.token_hex(16)
        self._began_s = self._loop.time()
        try:
            self._asked = desk.ask(self._piece)
        except FullError:
            words = "too many requests are waiting for this device"
            raise RefusalError(429, words, code="rate_limit_exceeded", after_s=1) from None
        self._asked.ended.add_done_callback(self._ended)

    @property
    def usage(self) -> dict[str, int]:
        """What it took, in tokens."""
        prompt, written = len(self._wish.tokens), len(self._written)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }

    def close(self) -> None:
        """Nobody wants to hear more: it ends with the token that is under way."""
        self._gone = True
        self._asked.ended.cancel()

    async def next(self, away: Callable[[], Awaitable[bool]] | None = None) -> Told:
        """What comes next of it.

        Args:
            away: whether whoever asked has gone.

        Raises:
            RefusalError: nothing comes, or no more.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    told = await self._came.get()
                if isinstance(told, Exception):
                    raise _refusal(told)
                return told
            waited_s = self._loop.time() - self._began_s
            if waited_s > BEGIN_S and self._asked.ended.cancel():
                words = f"no round of the market has begun within {BEGIN_S:g} s"
                raise RefusalError(503, words, code="no_round", after_s=10)
            if waited_s > WHOLE_S or (away is not None and await away()):
                raise RefusalError(504, f"it has taken longer than {WHOLE_S:g} s", code="timeout")

    # ------------------------------------------------------------ on the device's threads

    def _piece(self) -> Prompt | None:
        """What is left of it to do; None for nothing."""
        tokens = (*self._wish.tokens, *self._written)
        left = self._wish.settings.tokens_max - len(self._written)
        ended = bool(self._written) and self._written[-1] in self._part.text_model.ends
        whole = left < 1 or len(tokens) >= self._part.text_model.rows_max
        if ended or whole or self._enough():
            return None
        return Prompt(
            tokens=tokens,
            settings=replace(self._wish.settings, tokens_max=left),
            name=f"{self._name}-{len(self._written)}",
            on_token=self._on_token,
        )

    def _enough(self) -> bool:
        return self._gone or self._spelling.stopped

    def _on_token(self, found: Drawn) -> bool:
        if self._gone:
            return True
        self._written.append(found.token)
        self._tell(Told(text=self._spelling.add(found.token), tokens=(found,)))
        return self._enough()

    def _ended(self, ended: object) -> None:
        future = self._asked.ended
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._tell(error if isinstance(error, Exception) else RuntimeError())
            return
        ends = self._part.text_model.ends
        text = self._spelling.end()  # which may hold a text that ends it
        stopped = self._spelling.stopped or (bool(self._written) and self._written[-1] in ends)
        self._tell(Told(text=text, reason="stop" if stopped else "length"))

    def _tell(self, told: Told | Exception) -> None:
        with suppress(RuntimeError):  # the endpoint has been closed
            self._loop.call_soon_threadsafe(self._came.put_nowait, told)


def _refusal(error: Exception) -> RefusalError:
    if isinstance(error, InputError):
        return RefusalError(400, f"{error}")
    if isinstance(error, FullError):
        return RefusalError(503, "this device is ending", code="ending", after_s=10)
    words = "the market does not take this work just now, or cannot be reached"
    return RefusalError(503, words, code="market", after_s=10)
