"""Where a graph can be cut: the sets of tensors through which all that depends on the data passes.

One sweep over the nodes finds them. Data is alive at a place if it has been made and is still
needed; all that is alive there is a cut. What a stage can make for itself (constants, shapes,
what follows from control) is never alive, and a state stays with its stage: a cut may not lie
between the first and the last node that need the same past.

A cut of one tensor is a dominator of the output.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepact.errors import InputError
from edgepact.inference.wiring import Wiring

TENSORS_MAX = 2
"""Most tensors of a cut, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A place at which a graph can be cut in two.

    Attributes:
        tensors: what is alive there, in the order in which it is made.
        after: index of the last node before it.
        device_state: pasts whose pairs stay before it; the others stay behind it.
    """

    tensors: tuple[str, ...]
    after: int
    device_state: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its tensors, as `--at` takes them."""
        return ",".join(self.tensors)


def find_cuts(wiring: Wiring, tensors_max: int | None = None) -> tuple[Cut, ...]:
    """All cuts of at most so many tensors, in the order of computation.

    What leaves nothing on one side, the inputs or the outputs themselves, is none.

    Args:
        wiring: of the graph.
        tensors_max: most tensors of a cut; by default one, or two where the graph has no cut of
            one.
    """
    if tensors_max is None:
        single = find_cuts(wiring, 1)
        return single or find_cuts(wiring, TENSORS_MAX)
    spans = state_spans(wiring)
    order = {name: at for at, name in enumerate(wiring.inputs.data)}
    last_read: dict[str, int] = {}
    for at in range(len(wiring.nodes)):
        last_read |= dict.fromkeys(wiring.data_reads(at), at)
    last_read |= dict.fromkeys(wiring.outputs, len(wiring.nodes))
    alive = {name for name in wiring.inputs.data if name in last_read}
    starts, ends = set(wiring.inputs.data), set(wiring.outputs)
    found: dict[frozenset[str], Cut] = {}
    previous: frozenset[str] = frozenset()
    for at, node in enumerate(wiring.nodes):
        for name in node.output:
            if wiring.kinds.get(name) == "data" and name in last_read:
                alive.add(name)
                order[name] = len(order)
        alive = {name for name in alive if last_read[name] > at}
        if not 1 <= len(alive) <= tensors_max or alive == previous:
            continue
        if alive <= starts or alive <= ends:
            continue
        if any(first <= at < last for first, last in spans.values()):
            continue
        previous = frozenset(alive)
        found.setdefault(
            previous,
            Cut(
                tensors=tuple(sorted(alive, key=order.__getitem__)),
                after=at,
                device_state=tuple(past for past, (_, last) in spans.items() if last <= at),
            ),
        )
    return tuple(found.values())


def chosen_cuts(
    wiring: Wiring, names: Sequence[Sequence[str]], path: Path, field: str
) -> tuple[Cut, ...]:
    """The cuts of these tensors.

    Args:
        wiring: of the graph.
        names: tensors of each cut, in the order of computation.
        path: of the model, for errors.
        field: where the names stood, for errors.

    Raises:
        InputError: there is no such cut, or they are out of order.
    """
    widest = max((len(tensors) for tensors in names), default=1)
    possible = {frozenset(cut.tensors): cut for cut in find_cuts(wiring, widest)}
    cuts = []
    for tensors in names:
        cut = possible.get(frozenset(tensors))
        if cut is None:
            unknown = [name for name in tensors if name not in wiring.kinds]
            word = ", ".join(repr(name) for name in (unknown or tensors))
            found = "which does not exist" if unknown else "beside which other values are alive"
            expected = "tensors at which the graph can be cut"
            raise InputError(path, field, expected, f"{word}, {found}")
        cuts.append(cut)
    places = [cut.after for cut in cuts]
    if any(later <= earlier for earlier, later in itertools.pairwise(places)):
        told = [",".join(tensors) for tensors in names]
        raise InputError(path, field, "tensors in the order of computation", told)
    return tuple(cuts)


def state_spans(wiring: Wiring) -> dict[str, tuple[int, int]]:
    """First and last node that need each past, or make its present."""
    presents = {present: past for past, present in wiring.inputs.state.items()}
    carried: dict[str, frozenset[str]] = {past: frozenset([past]) for past in wiring.inputs.state}
    spans: dict[str, tuple[int, int]] = {}
    for at, node in enumerate(wiring.nodes):
        if wiring.asks_size(at):
            continue
        pasts = frozenset().union(*(carried.get(name, frozenset()) for name in wiring.reads[at]))
        if not wiring.is_data(at):
            carried |= dict.fromkeys(filter(None, node.output), pasts)
            pasts = frozenset()
        pasts |= {presents[name] for name in node.output if name in presents}
        for past in pasts:
            first, _ = spans.get(past, (at, at))
            spans[past] = (first, at)
    return spans
