"""Chats as one text, by the template that came with a model, which is a stranger's program.

It runs in Jinja's immutable sandbox, on plain texts, with the few filters and methods that chat
templates use. The sandbox alone keeps a program from the machine, not from its memory and time: so
every text that it makes is held against a limit, at every way of making one, and so are all of them
together, the number of lines it runs, and the time it takes.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from edgepact.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_CHARS_MAX = 65_536
CHAT_CHARS_MAX = 1 << 20
MESSAGES_MAX = 1024
WRITTEN_CHARS_MAX = 4 << 20
"""Most characters of any text that a template makes."""

MADE_MAX = 64 << 20
"""Most characters of all texts that a template makes; an entry of a list counts as `ENTRY`."""

ENTRY = 64
"""Bytes that a short text takes, about."""

LINES_MAX = 1_000_000
"""Most lines that a template runs."""

SECONDS_MAX = 10.0
"""How long a template may run."""

FILTERS = frozenset(
    {"capitalize", "count", "d", "default", "first", "int", "items", "last", "length", "list"}
    | {"lower", "string", "title", "tojson", "trim", "upper"}
)
METHODS = frozenset(
    {"strip", "lstrip", "rstrip", "split", "startswith", "endswith", "lower", "upper", "title"}
    | {"items", "keys", "values", "get"}
)


def chat_text(
    template: str, messages: Sequence[Mapping[str, str]], *, source: object = "chat"
) -> str:
    """A chat as one text, up to where the model is to speak.

    Args:
        template: the program, in Jinja.
        messages: each with `role` and `content`.
        source: what errors name.

    Raises:
        InputError: there is no template, the messages are too long, or the template cannot be run
            within the limits.
        MissingExtraError: `jinja2` is not installed.

    Example:
        >>> said = [{"role": "user", "content": "Hello"}]
        >>> chat_text("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", said)
        'user: Hello'
    """
    if not template:
        raise InputError(source, "template", "a model with a template of chats", "none")
    if len(template) > TEMPLATE_CHARS_MAX:
        expected = f"at most {TEMPLATE_CHARS_MAX} characters"
        raise InputError(source, "template", expected, len(template))
    plain = [{"role": str(each["role"]), "content": str(each["content"])} for each in messages]
    size = sum(len(each["role"]) + len(each["content"]) for each in plain)
    if not 1 <= len(plain) <= MESSAGES_MAX or size > CHAT_CHARS_MAX:
        expected = f"1 to {MESSAGES_MAX} messages, {CHAT_CHARS_MAX} characters in all"
        raise InputError(source, "messages", expected, f"{len(plain)}, {size} characters")
    try:
        with _few_lines():
            text = _compiled(template).render(
                messages=plain, add_generation_prompt=True, bos_token="", eos_token=""
            )
    except MissingExtraError:
        raise
    except Exception as error:  # whatever a stranger's program does
        found = f"{type(error).__name__}: {error}"[:200]
        raise InputError(source, "template", "one that can be run within limits", found) from None
    return text


# ---------------------------------------------------------------- private


class _Beyond(Exception):
    """A template has gone beyond a limit."""


_left: ContextVar[list[int]] = ContextVar("left")
"""Characters and entries that the template which runs may still make."""


def _counted(value: Any) -> Any:
    """What a template has made, taken off what it may make."""
    if isinstance(value, str | list | tuple):
        left = _left.get([MADE_MAX])
        left[0] -= len(value) * (1 if isinstance(value, str) else ENTRY)
        if left[0] < 0:
            raise _Beyond(f"more than {MADE_MAX} characters in all")
    return value


@lru_cache(maxsize=4)
def _compiled(template: str) -> "Template":
    return _environment().from_string(template)


def _environment() -> "ImmutableSandboxedEnvironment":
    try:
        from jinja2 import nodes
        from jinja2.compiler import CodeGenerator
        from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
        from jinja2.utils import Namespace
    except ImportError:
        raise MissingExtraError("the job text", "text") from None

    class Generator(CodeGenerator):
        def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
            """`a ~ b` goes through a method that can refuse."""
            self.write("environment.concat(str(each) for each in (")
            for each in node.nodes:
                self.visit(each, frame)
                self.write(", ")
            self.write("))")

        def visit_Getitem(self, node: nodes.Getitem, frame: Any) -> None:
            """What is cut out of a text is another one."""
            cut = isinstance(node.arg, nodes.Slice)
            self.write("environment.counted(" if cut else "")
            super().visit_Getitem(node, frame)
            self.write(")" if cut else "")

    class Sandbox(ImmutableSandboxedEnvironment):
        code_generator_class = Generator
        intercepted_binops = frozenset({"+", "*", "**", "%"})
        concat = staticmethod(_joined)
        counted = staticmethod(_counted)

        def call(*args: Any, **named: Any) -> Any:
            # All by place: templates may name an argument as they like.
            return _counted(ImmutableSandboxedEnvironment.call(*args, **named))

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if callable(value) and attr not in METHODS:
                return False
            return super().is_safe_attribute(obj, attr, value)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            both = (left, right)
            whole = all(isinstance(each, int) and abs(each) < 2**31 for each in both)
            texts = all(isinstance(each, str) for each in both)
            if operator == "+" and texts:
                return _joined(both)
            if whole and operator != "**":
                return super().call_binop(context, operator, left, right)
            raise _Beyond(f"{operator} is for numbers, and + for texts as well")

    def refuse(message: object) -> None:
        raise _Beyond(f"{message}"[:200])

    # As templates are written for: what transformers sets.
    made = Sandbox(trim_blocks=True, lstrip_blocks=True)
    made.globals = {"raise_exception": refuse, "range": safe_range, "namespace": Namespace}
    made.filters = {name: _held(made.filters[name]) for name in FILTERS}
    return made


def _joined(parts: Iterable[str]) -> str:
    kept, size = [], 0
    for part in parts:
        kept.append(part)
        size += len(part)
        if size > WRITTEN_CHARS_MAX:
            raise _Beyond(f"a text of more than {WRITTEN_CHARS_MAX} characters")
    return str(_counted("".join(kept)))


def _held(run: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that makes no text beyond the limit."""

    @wraps(run)
    def held(*args: Any, **named: Any) -> Any:
        value = run(*args, **named)
        if isinstance(value, str) and len(value) > WRITTEN_CHARS_MAX:
            raise _Beyond(f"a text of more than {WRITTEN_CHARS_MAX} characters")
        return _counted(value)

    return held


@contextmanager
def _few_lines() -> Iterator[None]:
    """What runs inside, runs few lines, not for long, and makes little."""
    left = iter(range(LINES_MAX))
    clock, end_s = time.monotonic, time.monotonic() + SECONDS_MAX

    def beyond() -> None:
        raise _Beyond(f"more than {LINES_MAX} lines, or {SECONDS_MAX:g} s")

    # No function of its own: the tests would check its arguments at each line.
    trace: Any = lambda *_: (  # noqa: E731
        trace if next(left, None) is not None and clock() < end_s else beyond()
    )

    before, counts = sys.gettrace(), _left.set([MADE_MAX])
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        _left.reset(counts)
