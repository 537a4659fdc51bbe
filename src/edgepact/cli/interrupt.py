"""Ctrl-C: at once, but as KeyboardInterrupt while there are processes to stop.

An exception in the middle of an import, or of a callback of JAX, is answered with tracebacks or
swallowed, and while nothing has been started there is nothing to clean up.
"""

import os
import signal
import sys
from types import FrameType

STATUS = 130
"""Exit status after an interrupt, as shells have it."""


class _State:
    came = False
    processes = False


def handle() -> None:
    """From now on; a caller who has a handler of its own keeps it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)


def expect_processes() -> None:
    """From now on an interrupt is an exception, since there are processes to stop."""
    _State.processes = True


def came() -> bool:
    """Whether there was one."""
    return _State.came


def leave() -> None:
    """Ends this process.

    Everything of ours has been stopped by now. The usual way out would take the interpreter apart
    while JAX may still be computing, and crash.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(STATUS)


def _on_interrupt(signum: int, frame: FrameType | None) -> None:
    _State.came = True
    if not _State.processes:
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")  # progress bars hide the cursor
            sys.stderr.flush()
        os._exit(STATUS)
    raise KeyboardInterrupt
