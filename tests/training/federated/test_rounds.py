"""The server's rounds over clients in memory: pay, faults, crashes."""

import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepact.efficiency.compression import Identity, at_rate
from edgepact.engagement import Answer, Finished, Item, Question, chosen
from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import SERVER, Ledger, account_of
from edgepact.market.statement import read_statement
from edgepact.training.federated import folder as files
from edgepact.training.federated.everyone import Everyone
from edgepact.training.federated.messages import TRAIN, Fields
from edgepact.training.federated.private_cost import PrivateCost
from edgepact.training.federated.rounds import Progress
from edgepact.training.federated.transport import Handler, Request
from tests.memory import most_bytes
from tests.training.federated.toy import CLIENTS, PSI, ROUNDS, SIZE, handlers, menu, play_in

ROOT = Path(__file__).resolve().parents[3]


def books_of(folder: Path) -> dict[int, dict[str, int]]:
    statement = read_statement(f"sqlite:///{folder / files.LEDGER}")
    assert statement.balanced
    assert all(each.closed for each in statement.rounds)
    return statement.paid_by_round()


def expect_paid_as_recorded(folder: Path, progress: Progress) -> None:
    """Every accepted update is paid once, nothing else is, and the digests agree."""
    recorded = {
        each.number: {at.client: at.reward_microcredits for at in each.accepted}
        for each in progress.history
        if each.accepted
    }
    assert books_of(folder) == recorded
    with Ledger(f"sqlite:///{folder / files.LEDGER}", create=False) as books:
        total = sum(each.paid_microcredits for each in progress.history)
        assert books.balances()[SERVER] == -total
        jobs = [payment.piece for payment in books.payments()]
    assert len(jobs) == len(set(jobs)) == sum(len(each.accepted) for each in progress.history)


def test_rounds_learn_and_pay_what_each_type_took(tmp_path: Path) -> None:
    progress = play_in(tmp_path)
    assert progress.round == ROUNDS
    assert progress.history[-1].accuracy > 1.5 * progress.history[0].accuracy
    offered = menu().menu
    for each in progress.history[1:]:
        assert len(each.accepted) == CLIENTS
        for at in each.accepted:
            cost = PrivateCost(psi=PSI[int(at.client[-1]) % len(PSI)])
            own = chosen(Question(menu=offered), cost.microcredits)
            assert own is not None
            assert at.reward_microcredits == offered[own].reward_microcredits
            assert at.bytes_up <= 4 * SIZE * offered[own].amount + 64
    expect_paid_as_recorded(tmp_path, progress)


def test_compression_with_error_feedback_loses_nothing_for_good(tmp_path: Path) -> None:
    whole, coarse = (
        play_in(tmp_path / name, engagement=Everyone(rate=rate), rounds=40)
        for name, rate in (("whole", 1.0), ("coarse", 0.1))
    )
    assert coarse.history[-1].accuracy > 0.97 * whole.history[-1].accuracy
    sent = [sum(each.bytes_up for each in run.history) for run in (coarse, whole)]
    assert sent[0] < sent[1] / 9


def broken(kind: str, request: Request) -> Fields:
    raise RuntimeError("the battery is flat")


def dying(honest: Handler) -> Handler:
    return lambda kind, request: (broken if kind == TRAIN else honest)(kind, request)


def tampered(honest: Handler, **changes: Any) -> Handler:
    def handle(kind: str, request: Request) -> Fields:
        fields = honest(kind, request)
        return {**fields, **changes} if kind == TRAIN else fields

    return handle


def replaying(honest: Handler) -> Handler:
    """Sends its first payload again and again, under each new order's name."""
    first: list[Any] = []

    def handle(kind: str, request: Request) -> Fields:
        fields = honest(kind, request)
        if kind != TRAIN:
            return fields
        first.append(fields["payload"])
        return {**fields, "payload": first[0]}

    return handle


def stale(honest: Handler) -> Handler:
    """Sends its first message again and again."""
    first: list[Fields] = []

    def handle(kind: str, request: Request) -> Fields:
        fields = honest(kind, request)
        if kind == TRAIN:
            first.append(fields)
            return first[0]
        return fields

    return handle


def poisoned() -> bytes:
    raw = bytearray(Identity().encode(np.ones(SIZE, np.float32), np.random.default_rng(0)))
    raw[-4:] = np.float32(np.nan).tobytes()
    return bytes(raw)


def longer() -> bytes:
    return at_rate(1.0).encode(np.ones(SIZE - 1, np.float32), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (dying, "battery"),
        (lambda honest: tampered(honest, payload=poisoned()), "finite"),
        (lambda honest: tampered(honest, payload=longer()), "header"),
        (lambda honest: tampered(honest, payload=bytes(5 * SIZE)), "at most"),
        (lambda honest: tampered(honest, payload=b"\x00\xffgarbage"), "header"),
        (lambda honest: tampered(honest, rate=0.5), "rate"),
        (lambda honest: tampered(honest, payload="text"), "bytes"),
        (stale, "round"),
        (replaying, "sent before"),
    ],
)
def test_a_faulty_client_is_unpaid_and_harms_nobody(
    tmp_path: Path, fault: Any, reason: str
) -> None:
    clients = handlers()
    clients["client-0"] = fault(clients["client-0"])
    faulty = play_in(tmp_path / "faulty", clients, engagement=Everyone(), rounds=4)
    old_is_good_once = fault in (stale, replaying)
    for each in faulty.history[2 if old_is_good_once else 1 :]:
        (rejected,) = [at for at in each.deliveries if at.rejected]
        assert rejected.client == "client-0"
        assert reason in rejected.rejected
        assert rejected.paid_microcredits == 0
        assert len(each.accepted) == CLIENTS - 1
    expect_paid_as_recorded(tmp_path / "faulty", faulty)
    if not old_is_good_once:
        # The others' rounds are bit for bit those without it.
        del clients["client-0"]
        others = {name: each for name, each in handlers().items() if name in clients}
        alone = play_in(tmp_path / "alone", others, engagement=Everyone(), rounds=4)
        assert np.array_equal(faulty.model.weights, alone.model.weights)


def test_a_client_that_stops_answering_is_left_out(tmp_path: Path) -> None:
    clients = handlers()
    clients["client-1"] = broken
    clients["client-2"] = lambda kind, request: {"item": 10**6}
    progress = play_in(tmp_path, clients, rounds=2)
    for each in progress.history[1:]:
        assert (each.asked, each.answered) == (CLIENTS, CLIENTS - 2)
        assert {at.client for at in each.accepted}.isdisjoint({"client-1", "client-2"})


def test_nobody_at_all_ends_in_words(tmp_path: Path) -> None:
    with pytest.raises(MarketError, match="battery is flat"):
        play_in(tmp_path, dict.fromkeys(handlers(), broken))


class _Rash:
    """A mechanism that promises more than it may, or to somebody who is not there."""

    def __init__(self, engaged: dict[str, Item]) -> None:
        self.engaged = engaged

    def question(self, round: int) -> Question:
        return Question()

    def engage(
        self, round: int, question: Question, answers: Mapping[str, Answer]
    ) -> dict[str, Item]:
        return self.engaged


@pytest.mark.parametrize("name", ["client-0", "stranger"])
def test_a_mechanism_is_held_to_its_rules(tmp_path: Path, name: str) -> None:
    rash = _Rash({name: Item(amount=1.0, reward_microcredits=11)})
    with pytest.raises(InputError, match="engage"):
        play_in(tmp_path, engagement=rash, budget_microcredits=10)
    assert books_of(tmp_path) == {}


class _Stop(Exception):
    pass


def test_killed_between_checkpoint_and_payment_it_pays_once_on_return(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.round == 3:
            raise _Stop

    with pytest.raises(_Stop):
        play_in(tmp_path, on_keep=stop, rounds=5)
    assert sorted(books_of(tmp_path)) == [1, 2]
    expect_paid_as_recorded(tmp_path, play_in(tmp_path, rounds=3))
    assert sorted(books_of(tmp_path)) == [1, 2, 3]
    expect_paid_as_recorded(tmp_path, play_in(tmp_path, rounds=5))


def test_killed_in_the_middle_of_paying_it_pays_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay, paid = Ledger.pay_work, []

    def pay_some(self: Ledger, work: Any) -> Any:
        if len(paid) == CLIENTS + 2:
            raise _Stop
        paid.append(work)
        return pay(self, work)

    monkeypatch.setattr(Ledger, "pay_work", pay_some)
    with pytest.raises(_Stop):
        play_in(tmp_path, rounds=3)
    monkeypatch.undo()
    progress = play_in(tmp_path, rounds=3)
    expect_paid_as_recorded(tmp_path, progress)


def test_a_server_killed_at_any_moment_loses_and_repeats_no_payment(tmp_path: Path) -> None:
    # Real processes, killed again and again until one gets to the end. All of the rounds together
    # take a fifth of a second of computing.
    moments = random.Random(7)
    killed = 0
    for moment_s in (0.01, *(moments.uniform(0.01, 0.08) for _ in range(3))):
        server = subprocess.run(
            [sys.executable, "-m", "tests.training.federated.toy", str(tmp_path), f"{moment_s}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        if "done" in server.stdout:
            break
        assert server.returncode == -signal.SIGPROF
        killed += 1
    assert killed > 1
    progress = play_in(tmp_path)
    assert progress.round == ROUNDS
    expect_paid_as_recorded(tmp_path, progress)


def test_another_runs_ledger_is_refused(tmp_path: Path) -> None:
    play_in(tmp_path, rounds=4)
    (tmp_path / files.CHECKPOINT).unlink()
    with pytest.raises(MarketError, match="another run"):
        play_in(tmp_path, rounds=4)


def test_a_mechanism_that_learns_sees_every_round_again_after_a_restart(tmp_path: Path) -> None:
    class Watching(Everyone):
        def __init__(self) -> None:
            self.seen: list[int]
            object.__setattr__(self, "per_round", None)
            object.__setattr__(self, "rate", 1.0)
            object.__setattr__(self, "seed", 0)
            object.__setattr__(self, "seen", [])

        def observe(self, finished: Finished) -> None:
            self.seen.append(finished.number)

    play_in(tmp_path, engagement=Watching(), rounds=2)
    resumed = Watching()
    play_in(tmp_path, engagement=resumed, rounds=4)
    assert resumed.seen == [1, 2, 3, 4]


def test_a_folder_belongs_to_one_run_and_one_process(tmp_path: Path) -> None:
    with files.locked(tmp_path):
        files.keep_config(tmp_path, {"seed": 1, "rounds": 2}, may_differ=frozenset({"rounds"}))
        files.keep_config(tmp_path, {"seed": 1, "rounds": 9}, may_differ=frozenset({"rounds"}))
        with pytest.raises(InputError, match=r"seed: expected 1 as before, found 2"):
            files.keep_config(tmp_path, {"seed": 2, "rounds": 2}, may_differ=frozenset())
        with (
            pytest.raises(InputError, match="another process"),
            files.locked(tmp_path),
        ):
            pass


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"not one at all"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, content: bytes) -> None:
    play_in(tmp_path, rounds=1)
    (tmp_path / files.CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match="checkpoint"):
        files.read_checkpoint(tmp_path, SIZE)


def _packed(path: Path, **entries: bytes) -> None:
    """A checkpoint whose arrays are replaced by these bytes, deflated."""
    with zipfile.ZipFile(path) as archive:
        kept = {each: archive.read(each) for each in archive.namelist()}
    kept |= {f"{name}.npy": content for name, content in entries.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


def _array(shape: str, content: bytes = b"", dtype: str = "<f4") -> bytes:
    """A .npy file that says of its shape what it likes."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("weights", _array(f"({1 << 40},)")),  # numbers that are not there
        ("weights", _array(f"({1 << 24},)", bytes(1 << 26))),  # packed to some KB
        ("first", _array(f"({SIZE + 1},)", bytes(4 * SIZE + 4))),
        ("second", _array(f"({SIZE},)", bytes(8 * SIZE), "<f8")),
        ("history", _array("(2, 2)", bytes(4), "|u1")),
    ],
    ids=("promised", "inflated", "too many moments", "another type", "a matrix"),
)
def test_no_more_of_a_checkpoint_is_taken_than_it_can_be(
    tmp_path: Path, field: str, content: bytes
) -> None:
    play_in(tmp_path, rounds=1)
    _packed(tmp_path / files.CHECKPOINT)
    assert files.read_checkpoint(tmp_path, SIZE) is not None
    _packed(tmp_path / files.CHECKPOINT, **{field: content})

    def refused() -> None:
        with pytest.raises(InputError, match=f"checkpoint.npz: {field}.*: expected"):
            files.read_checkpoint(tmp_path, SIZE)

    assert most_bytes(refused) < 1 << 22


def test_accounts_show_what_clients_earned(tmp_path: Path) -> None:
    progress = play_in(tmp_path, rounds=2)
    with Ledger(f"sqlite:///{tmp_path / files.LEDGER}", create=False) as books:
        for number in range(CLIENTS):
            earned = sum(
                at.paid_microcredits
                for each in progress.history
                for at in each.accepted
                if at.client == f"client-{number}"
            )
            assert books.balances()[account_of(f"client-{number}")] == earned > 0
