"""Runs stages [i, j) of a language model on chunks of a text, with the state that each block keeps.

Every stage is an ONNX Runtime session of its own, opened when it is first needed, so that one set
serves all cuts. A block keeps keys and values of the tokens before; a `State` holds those of a
range of blocks for one text, in buffers that ONNX Runtime reads and writes in place. Going back
costs nothing: a state that is told an earlier position writes over what came after it.

Memory is bounded: `States` hands states out, and takes the buffers of the least used ones away
when there are too many, or too large. Whoever finds his state `evicted` computes it again from
what he kept of the text, which is smaller by far than keys and values.

Chunks of several texts are run one by one here, and together in `inference.together`. Attention to
a chunk differs from that to one token after another in the last bit, and inputs that are rounded to
8 bits make more of it: an audit therefore uses the chunks that were used.

Used by one thread. ONNX Runtime and NumPy only.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from edgepact.errors import InputError
from edgepact.inference.gguf.folder import TextModel, stage_path
from edgepact.inference.pipeline import open_session, tied

CHUNK_MAX = 256
"""Most tokens of a chunk."""

ROWS_FIRST = 64
"""Rows that a state begins with; doubled as a text grows."""

STATES_MAX = 256
STATE_BYTES_MAX = 1 << 30
"""Most bytes of all states together."""

_Step = tuple[Callable[[], None], Any]
"""A call, and the binding that it needs kept."""


class State:
    """Keys and values of a range of blocks for one text.

    Made by `States.new`.

    Attributes:
        blocks: numbers of the blocks, from 1.
        position: tokens that it holds; may be set to an earlier one.
        evicted: whether its buffers were taken away: it begins at position 0 again.
        busy: whether a chunk is on its way through its blocks, so that its buffers must stay.
        attentions: what `together` keeps for its blocks, until the buffers change.
    """

    def __init__(self, model: TextModel, blocks: range, states: "States") -> None:
        self.blocks = blocks
        self.evicted = self.busy = False
        self.attentions: dict[int, tuple[np.ndarray, np.ndarray, Callable[[], None], Any]] = {}
        self._position = 0
        self._model, self._states = model, states
        self._rows = 0
        self._buffers: list[tuple[np.ndarray, np.ndarray]] = []
        self._values: list[tuple[Any, Any]] = []
        self._steps: dict[int, _Step] = {}
        # One number each, that all blocks are bound to.
        self._last, self._total = np.zeros(1, np.int32), np.zeros(1, np.int32)
        self._counts = tuple(
            ort.OrtValue.ortvalue_from_numpy(each) for each in (self._last, self._total)
        )

    @property
    def position(self) -> int:
        """Tokens that it holds."""
        return self._position

    @property
    def nbytes(self) -> int:
        """Of its buffers."""
        return sum(key.nbytes + value.nbytes for key, value in self._buffers)

    def back_to(self, position: int) -> None:
        """Forgets what came after a position.

        Raises:
            InputError: it has not come so far.
        """
        if not 0 <= position <= self._position:
            expected = f"a number from 0 to {self._position}"
            raise InputError("text", "position", expected, position)
        self._position = position

    def take(self, other: "State", position: int) -> None:
        """Holds the first tokens that another state of the same blocks holds, in memory of its own.

        Raises:
            InputError: the other has not come so far.
        """
        if not len(self.blocks):
            return
        if other.blocks != self.blocks or not 0 <= position <= other.position:
            expected = f"a number from 0 to {other.position}"
            raise InputError("text", "position", expected, position)
        self._states._use(other)
        self._states._use(self)
        self._reach(position)
        for pair, held in zip(self._buffers, other._buffers, strict=True):
            for own, its in zip(pair, held, strict=True):
                own[:, :, :position] = its[:, :, :position]
        self._position = position
        self._states._hold_limits(self)

    def drop(self) -> None:
        """Gives its buffers up."""
        self._buffers, self._values, self._steps, self.attentions = [], [], {}, {}
        self._rows = self._position = 0
        self.busy = False

    def count(self, total: int) -> None:
        """Says how many tokens there are with the rows that attend next, for which it has room."""
        self._last[0], self._total[0] = total - 1, total

    def bind(self, binding: Any, at: int) -> None:
        """Binds the keys and values of a block, counted from its first, and their number."""
        key, value = self._values[at]
        last, total = self._counts
        for name, held in (
            ("past_key", key),
            ("past_value", value),
            ("last", last),
            ("total", total),
        ):
            binding.bind_ortvalue_input(name, held)
        for name, held in (("present_key", key), ("present_value", value)):
            binding.bind_ortvalue_output(name, held)

    def _reach(self, total: int) -> None:
        """Makes room for so many rows."""
        if total > self._model.rows_max:
            expected = f"at most {self._model.rows_max} tokens in a text"
            raise InputError("text", "tokens", expected, total)
        if total > self._rows:
            rows = max(self._rows, ROWS_FIRST)
            while rows < total:
                rows *= 2
            self._grow(min(rows, self._model.rows_max))
        self.count(total)

    def _grow(self, rows: int) -> None:
        sizes = self._model.sizes
        shape = (1, sizes.heads_kv, rows, sizes.head_width)
        self._steps, self.attentions = {}, {}
        for at in range(len(self.blocks)):
            pair = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            # On a CPU a value is no copy: it stands for the array's own memory.
            key, value = (ort.OrtValue.ortvalue_from_numpy(each) for each in pair)
            if at == len(self._buffers):
                self._buffers.append(pair)
                self._values.append((key, value))
                continue
            for new, old in zip(pair, self._buffers[at], strict=True):
                new[:, :, : self._position] = old[:, :, : self._position]
            # Block by block, so that never all is there twice.
            self._buffers[at], self._values[at] = pair, (key, value)
        self._rows = rows


class States:
    """Hands out states within limits.

    Args:
        model: whose they are.
        count_max: most of them that hold buffers at a time.
        bytes_max: most bytes of their buffers.

    Raises:
        InputError: a limit is below 1.
    """

    def __init__(
        self,
        model: TextModel,
        *,
        count_max: int = STATES_MAX,
        bytes_max: int = STATE_BYTES_MAX,
    ) -> None:
        for field, found in (("count_max", count_max), ("bytes_max", bytes_max)):
            if found < 1:
                raise InputError("states", field, "at least 1", found)
        self._model = model
        self._count_max, self._bytes_max = count_max, bytes_max
        self._held: OrderedDict[int, State] = OrderedDict()
        self.evictions = 0

    @property
    def nbytes(self) -> int:
        """Of all buffers."""
        return sum(state.nbytes for state in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def new(self, blocks: range) -> State:
        """An empty state.

        Raises:
            InputError: the model has no such blocks.
        """
        most = self._model.sizes.blocks
        if len(blocks) and not (blocks.start >= 1 and blocks.stop <= most + 1 and blocks.step == 1):
            raise InputError("text", "blocks", f"blocks from 1 to {most}", f"{blocks}")
        return State(self._model, blocks, self)

    def release(self, state: State) -> None:
        """Gives a state up that is not needed any more."""
        self._held.pop(id(state), None)
        state.drop()

    def _use(self, state: State) -> None:
        """Notes that a state is used, and takes others' buffers away as far as limits want."""
        state.evicted = False
        self._held[id(state)] = state
        self._held.move_to_end(id(state))

    def _hold_limits(self, state: State) -> None:
        idle = [each for each in self._held.values() if each is not state and not each.busy]
        for oldest in idle:  # never what is at work
            if len(self._held) <= self._count_max and self.nbytes <= self._bytes_max:
                break
            del self._held[id(oldest)]
            oldest.drop()
            oldest.evicted = True
            self.evictions += 1


class Decoder:
    """The stages of a language model.

    Args:
        model: its folder.
        threads: that each stage may use for one operator.

    Raises:
        InputError: `threads` is below 1.
    """

    def __init__(self, model: TextModel, *, threads: int = 1) -> None:
        if threads < 1:
            raise InputError("decoder", "threads", "at least 1", threads)
        self.model = model
        self.threads = threads
        self._sessions: dict[int, ort.InferenceSession] = {}
        width = model.sizes.width
        # Blocks take turns in writing to two buffers; a text's next token goes through them.
        self._pair = tuple(np.zeros((1, 1, width), np.float32) for _ in range(2))
        self._pair_values = tuple(ort.OrtValue.ortvalue_from_numpy(each) for each in self._pair)

    def load(self, stages: range) -> None:
        """Opens stages now and not at the first token.

        Raises:
            InputError: a file is missing, or does not load.
        """
        for stage in stages:
            self._session(stage)

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """What the first block starts from.

        Args:
            tokens: whole numbers, `(chunk,)`.

        Returns:
            float32, `(1, chunk, width)`.

        Raises:
            InputError: a token is none of the model's, or there are too many or none.
        """
        known = self.model.sizes.vocabulary
        chunk = np.asarray(tokens, np.int64).reshape(1, -1)
        if not 1 <= chunk.size <= CHUNK_MAX:
            raise InputError("text", "tokens", f"chunks of 1 to {CHUNK_MAX} tokens", chunk.size)
        if chunk.min() < 0 or chunk.max() >= known:
            raise InputError("text", "tokens", f"numbers from 0 to {known - 1}", "others")
        found: np.ndarray = self._session(0).run(["hidden"], {"tokens": chunk})[0]
        return found

    def blocks(self, state: State, hidden: np.ndarray) -> np.ndarray:
        """Takes a chunk through the blocks of a state, which then holds it too.

        Args:
            state: of the text.
            hidden: float32, `(1, chunk, width)`: what its first block starts from.

        Returns:
            The same shape, behind its last block, in memory of its own.

        Raises:
            InputError: `hidden` has another shape, or the text becomes too long.
        """
        width = self.model.sizes.width
        fits = hidden.dtype == np.float32 and hidden.ndim == 3
        if not fits or hidden.shape[::2] != (1, width) or not 1 <= hidden.shape[1] <= CHUNK_MAX:
            expected = f"float32 of shape [1, 1 to {CHUNK_MAX}, {width}]"
            came = f"{hidden.dtype} of shape {list(hidden.shape)}"
            raise InputError("text", "hidden", expected, came)
        chunk = hidden.shape[1]
        if not len(state.blocks):
            return hidden.copy()
        self.begin(state, chunk)
        try:
            found = self._passed(state, hidden)
        finally:
            state.busy = False
        self.end(state, chunk)
        return found

    def singly(self, state: State, hidden: np.ndarray) -> np.ndarray:
        """As `blocks`, a row after another: tokens that are written, not a prompt."""
        rows = range(hidden.shape[1])
        found = [self.blocks(state, np.ascontiguousarray(hidden[:, at : at + 1])) for at in rows]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def begin(self, state: State, rows: int) -> None:
        """Makes room for a chunk, which is then `busy` until its `end`.

        Raises:
            InputError: the text becomes too long.
        """
        if len(state.blocks):
            state._states._use(state)
            state._reach(state._position + rows)
            state.busy = True
            state._states._hold_limits(state)

    def end(self, state: State, rows: int) -> None:
        """Notes that a chunk has passed the blocks of a state, which holds so many rows more."""
        state.busy = False
        if len(state.blocks):
            state._position += rows

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """What comes next, behind the last block.

        Args:
            hidden: float32, `(1, chunk, width)`.

        Returns:
            float32, `(chunk, vocabulary)`.
        """
        head = self.model.stages - 1
        found: np.ndarray = self._session(head).run(["logits"], {"hidden": hidden})[0]
        return found[0]

    def _passed(self, state: State, hidden: np.ndarray) -> np.ndarray:
        if hidden.shape[1] == 1:
            self._pair[0][...] = hidden
            for at in range(len(state.blocks)):
                found_step = state._steps.get(at)
                if found_step is None:
                    found_step = state._steps[at] = self._tied(state, at, self._pair_values)
                found_step[0]()
            found: np.ndarray = self._pair[len(state.blocks) % 2].copy()
        else:
            arrays = (np.array(hidden), np.empty_like(hidden))
            values = tuple(ort.OrtValue.ortvalue_from_numpy(each) for each in arrays)
            for at in range(len(state.blocks)):
                step, _ = self._tied(state, at, values)
                step()
            found = arrays[len(state.blocks) % 2]
        return found

    def _tied(self, state: State, at: int, values: tuple[Any, ...]) -> _Step:
        session = self._session(state.blocks[at])
        binding = session.io_binding()
        state.bind(binding, at)
        binding.bind_ortvalue_input("hidden", values[at % 2])
        binding.bind_ortvalue_output("hidden_next", values[(at + 1) % 2])
        return tied(session, binding), binding

    def _session(self, stage: int) -> ort.InferenceSession:
        session = self._sessions.get(stage)
        if session is None:
            path = stage_path(self.model.folder, stage)
            session = self._sessions[stage] = open_session(
                path, threads=self.threads, planned=False
            )
        return session
