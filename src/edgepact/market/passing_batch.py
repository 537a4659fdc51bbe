"""Which pieces pass the next stages together: the order of work on one core, and nothing else.

Every piece enters at a stage of its own, as its device has cut it, and leaves behind the last one.
A batch that passes a stage takes along whoever waits there. Batching pays because a stage costs
less for several pieces at once, and costs waiting: a piece that entered late in the model would be
through before the batch has come up to it. So much is allowed, and no more:

- The group that moves goes on. When none moves, the lowest stage at which somebody waits begins,
  so that everybody further on can join. A core with nothing else to do begins at once.
- A piece may be passed over for `wait_s`. From then on whatever moves is a group with the piece
  itself in it, or with one that entered before it.
- No piece overtakes an earlier one of the same device.
- Work that has no stages is a member too, and goes alone.

Every decision follows from the members and the time that is told: there is no clock, thread or
model in here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

ALONE = -1
"""Stage of work that nobody can join. It is over in one step."""


@dataclass(slots=True, kw_only=True, eq=False)
class Member(Generic[T]):
    """A piece on its way.

    Attributes:
        who: whose it is.
        what: whatever the caller keeps of it.
        stage: the one it takes next, or `ALONE`.
        entered_s: when it entered, seconds of the caller's clock.
        moving: whether it has taken a stage.
    """

    who: str
    what: T
    stage: int
    entered_s: float
    moving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[T]):
    """What is done next.

    Attributes:
        members: who passes, those that entered first at the front.
        start: the stage that they take first, or `ALONE`.
        stop: the stage before which to stop, since others wait there or it is the end.
        until_s: when to stop earlier, between two stages, since somebody has waited long enough.
    """

    members: tuple[Member[T], ...]
    start: int
    stop: int
    until_s: float = math.inf


class PassingBatch(Generic[T]):
    """Pieces on their way through the stages of one model.

    Args:
        stages: how many there are.
        size_max: most pieces on their way.
        wait_s: how long a piece may be passed over.
    """

    def __init__(self, *, stages: int, size_max: int, wait_s: float) -> None:
        self._stages, self._size_max, self._wait_s = stages, size_max, wait_s
        self._members: list[Member[T]] = []  # in the order in which they entered

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member[T]]:
        return iter(self._members)

    @property
    def room(self) -> int:
        """How many more may enter."""
        return self._size_max - len(self._members)

    def enter(self, who: str, what: T, stage: int, now_s: float) -> Member[T]:
        """Takes a piece in that waits at a stage, or work that goes `ALONE`."""
        assert self.room > 0
        assert stage == ALONE or 0 <= stage < self._stages
        member = Member(who=who, what=what, stage=stage, entered_s=now_s)
        self._members.append(member)
        return member

    def step(self, now_s: float) -> Step[T] | None:
        """What to do now; None if nobody is there. `moved` has to tell what became of it."""
        if not self._members:
            return None
        oldest = self._members[0]
        if now_s >= oldest.entered_s + self._wait_s:
            lead = oldest
        else:
            moving = [each for each in self._members if each.moving]
            lead = min(moving or self._free_to_begin(), key=lambda each: each.stage)
        if lead.stage == ALONE:
            return Step(members=(lead,), start=ALONE, stop=self._stages)
        members = self._at(lead.stage)
        beyond = (each.stage for each in self._members if each.stage > lead.stage)
        return Step(
            members=members,
            start=lead.stage,
            stop=min(beyond, default=self._stages),
            until_s=math.inf if members[0] is oldest else oldest.entered_s + self._wait_s,
        )

    def moved(self, step: Step[T], reached: int) -> tuple[Member[T], ...]:
        """Hears how far a step has come; returns who is through, and forgets them.

        Args:
            step: that was done.
            reached: the stage that its members take next; the number of stages if none is left,
                or if they are to be forgotten.
        """
        if reached >= self._stages:
            self._members = [each for each in self._members if each not in step.members]
            return step.members
        for member in step.members:
            member.stage, member.moving = reached, True
        return ()

    def _free_to_begin(self) -> list[Member[T]]:
        """All members but those kept back by work of their own device, one of which goes alone."""
        found, earlier, earlier_alone = [], set[str](), set[str]()
        for member in self._members:
            alone = member.stage == ALONE
            if member.who not in (earlier if alone else earlier_alone):
                found.append(member)
            earlier.add(member.who)
            if alone:
                earlier_alone.add(member.who)
        return found

    def _at(self, stage: int) -> tuple[Member[T], ...]:
        """Members at a stage, but for those that would leave an earlier one of theirs behind."""
        found, rearmost = [], dict[str, int]()
        for member in self._members:
            last = min(member.stage, rearmost.get(member.who, member.stage))
            if member.stage == stage <= last:
                found.append(member)
            rearmost[member.who] = last
        return tuple(found)
