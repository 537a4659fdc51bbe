"""A ledger of an older edition is brought up to date, and keeps what was paid."""

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from edgepact.engagement import posted
from edgepact.errors import InputError
from edgepact.market.ledger import (
    FORFEITED,
    SERVER,
    Ledger,
    PieceState,
    Stage,
    account_of,
    token_hash,
)
from edgepact.market.ledger.database import META
from edgepact.market.protocol.messages import question_json
from tests.market.ledger_cases import PRICE, delivered, open_ledger, piece, with_round

EDITION_2 = """
CREATE TABLE devices (
    name VARCHAR(64) NOT NULL,
    enrol_hash VARCHAR(64) NOT NULL,
    token_hash VARCHAR(64) NOT NULL,
    confirmed BOOLEAN NOT NULL,
    PRIMARY KEY (name),
    UNIQUE (enrol_hash),
    UNIQUE (token_hash)
);
CREATE TABLE entries (
    id INTEGER NOT NULL,
    reference VARCHAR(160) NOT NULL,
    account VARCHAR(80) NOT NULL,
    debit_microcredits BIGINT NOT NULL,
    credit_microcredits BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (reference, account),
    CHECK (debit_microcredits >= 0 and credit_microcredits >= 0),
    CHECK ((debit_microcredits = 0) <> (credit_microcredits = 0))
);
CREATE TABLE facts (
    name VARCHAR(64) NOT NULL,
    value VARCHAR(256) NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE rounds (
    number BIGINT NOT NULL,
    job VARCHAR(64) NOT NULL,
    model VARCHAR(256) NOT NULL,
    digest VARCHAR(128) NOT NULL,
    question TEXT NOT NULL,
    units_per_device BIGINT NOT NULL,
    engaged BOOLEAN NOT NULL,
    closed BOOLEAN NOT NULL,
    PRIMARY KEY (number)
);
CREATE TABLE answers (
    round BIGINT NOT NULL,
    device VARCHAR(64) NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (round, device),
    FOREIGN KEY(round) REFERENCES rounds (number),
    FOREIGN KEY(device) REFERENCES devices (name)
);
CREATE TABLE assignments (
    round BIGINT NOT NULL,
    device VARCHAR(64) NOT NULL,
    amount FLOAT NOT NULL,
    reward_microcredits BIGINT NOT NULL,
    PRIMARY KEY (round, device),
    CHECK (amount >= 0 and reward_microcredits >= 0),
    FOREIGN KEY(round) REFERENCES rounds (number),
    FOREIGN KEY(device) REFERENCES devices (name)
);
CREATE TABLE pieces (
    id INTEGER NOT NULL,
    device VARCHAR(64) NOT NULL,
    piece VARCHAR(64) NOT NULL,
    round BIGINT NOT NULL,
    amount FLOAT NOT NULL,
    units BIGINT NOT NULL,
    microcredits BIGINT NOT NULL,
    state VARCHAR(8) NOT NULL,
    digest BLOB NOT NULL,
    audited BOOLEAN NOT NULL,
    evidence BLOB,
    recorded_s FLOAT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (device, piece),
    FOREIGN KEY(device) REFERENCES devices (name),
    FOREIGN KEY(round) REFERENCES rounds (number)
);
CREATE INDEX pieces_by_round ON pieces (round, device);
"""
"""The tables of edition 2, as it made them."""

PAY = 3 * PRICE
SECRET = "ab" * 32


def edition_2(folder: Path) -> str:
    """A ledger of edition 2: two pieces paid, one held, one forfeit, one of no pay."""
    file = folder / "ledger.db"
    books = sqlite3.connect(file)
    books.executescript(EDITION_2)
    books.execute("insert into facts values ('schema', '2')")
    books.execute("insert into facts values ('secret', ?)", (SECRET,))
    for name in ("cam-1", "cam-2"):
        hashes = (token_hash(f"once-{name}"), token_hash(f"own-{name}"))
        books.execute("insert into devices values (?, ?, ?, 1)", (name, *hashes))
    question = json.dumps(question_json(posted(PRICE, 12)))
    for number, closed in ((1, True), (2, False)):
        books.execute(
            "insert into rounds values (?, 'classification', 'm', 'ab', ?, 6, 0, ?)",
            (number, question, closed),
        )
        for name, layers in (("cam-1", 3), ("cam-2", 0)):
            books.execute(
                "insert into assignments values (?, ?, ?, ?)",
                (number, name, layers, PRICE * layers),
            )
    pieces = [
        ("cam-1", "a", 1, "paid", 2),
        ("cam-1", "bad", 1, "forfeit", 1),
        ("cam-1", "b", 2, "paid", 1),
        ("cam-1", "c", 2, "held", 1),
        ("cam-2", "z", 2, "paid", 1),
    ]
    for device, name, number, state, units in pieces:
        pay = PAY * units if device == "cam-1" else 0
        digest = hashlib.sha256(f"{device}/{name}".encode()).digest()
        layers = 3.0 if device == "cam-1" else 0.0
        books.execute(
            "insert into pieces (device, piece, round, amount, units, microcredits, state, digest, "
            "audited, evidence, recorded_s) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1.5)",
            (
                device, name, number, layers, units, pay, state, digest,
                state != "paid", b"e" if state == "held" else None,
            ),
        )  # fmt: skip
        if state == "paid" and pay:
            for account, debit, credit in ((SERVER, pay, 0), (account_of(device), 0, pay)):
                books.execute(
                    "insert into entries (reference, account, debit_microcredits, "
                    "credit_microcredits) values (?, ?, ?, ?)",
                    (f"{device}/{name}", account, debit, credit),
                )
    books.commit()
    books.close()
    return f"sqlite:///{file}"


def test_what_was_paid_stays_paid_and_the_books_are_whole(tmp_path: Path) -> None:
    with Ledger(edition_2(tmp_path)) as ledger:
        assert ledger.check() == []
        assert ledger.balances() == {SERVER: -3 * PAY, account_of("cam-1"): 3 * PAY,
                                     account_of("cam-2"): 0}  # fmt: skip
        assert [(p.device, p.piece, p.microcredits) for p in ledger.payments()] == [
            ("cam-1", "a", 2 * PAY),
            ("cam-1", "b", PAY),
            ("cam-2", "z", 0),
        ]
        assert ledger.jobs_by_state() == {"pending": 0, "paid": 3, "forfeit": 1, "expired": 1}
        assert ledger.device_of("own-cam-1") == "cam-1"
        assert ledger.secret() == bytes.fromhex(SECRET)
        assert ledger.unsettled() == []
        assert [each.closed for each in ledger.rounds()] == [True, True]
        assert [each.units.get("cam-1") for each in ledger.rounds()] == [2, 1]
        assert (ledger.strikes(), ledger.shut_out(), ledger.verdicts()) == ({}, {}, [])


def test_the_market_goes_on_with_it(tmp_path: Path) -> None:
    with Ledger(edition_2(tmp_path)) as ledger:
        (again,) = delivered(ledger, piece(name="a"))
        assert (again.repeated, again.state) == (True, PieceState.PAID)
        with_round(ledger, 3)
        delivered(ledger, piece(name="d", round=3))
        ledger.settle(3, "cam-1")
        assert ledger.check() == []
        assert ledger.balances()[account_of("cam-1")] == 4 * PAY
        assert FORFEITED not in ledger.balances()
        assert ledger.rounds(last=1)[0].stages["cam-1"] is Stage.SETTLED
    with open_ledger(tmp_path) as again_open:
        assert again_open.check() == []


def test_a_piece_put_in_later_is_told(tmp_path: Path) -> None:
    with Ledger(edition_2(tmp_path)) as ledger:
        with ledger._database.engine.begin() as books:
            books.exec_driver_sql(
                "insert into pieces (device, piece, round, amount, units, microcredits, state, "
                "digest, audited, recorded_s) select device, 'zz', round, amount, units, "
                "microcredits, state, digest, audited, recorded_s from pieces where piece = 'bad'"
            )
        assert "the piece cam-1/zz is not what its transfer was for" in ledger.check()


def test_its_tables_are_those_of_a_new_ledger(tmp_path: Path) -> None:
    def columns(url: str) -> dict[str, dict[str, tuple[str, bool]]]:
        import sqlalchemy as sa

        engine = sa.create_engine(url)
        found = sa.inspect(engine)
        told = {
            table: {
                each["name"]: (str(each["type"]), each["nullable"])
                for each in found.get_columns(table)
            }
            | {
                f"index {each['name']}": (str(each["column_names"]), True)
                for each in found.get_indexes(table)
            }
            for table in found.get_table_names()
        }
        engine.dispose()
        return told

    (tmp_path / "new").mkdir()
    open_ledger(tmp_path / "new").close()
    url = edition_2(tmp_path)
    Ledger(url).close()
    assert columns(url) == columns(f"sqlite:///{tmp_path / 'new' / 'ledger.db'}")
    assert set(columns(url)) == set(META.tables)


def test_it_is_brought_up_to_date_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepact.market.ledger.migrations import edition_3

    url = edition_2(tmp_path)

    def fails(_: object) -> None:
        raise KeyError("a power cut")

    with monkeypatch.context() as patched:
        patched.setattr(edition_3, "_carry_over", fails)
        with pytest.raises(KeyError):
            Ledger(url)
    with Ledger(url) as ledger:
        assert ledger.check() == []
        assert len(ledger.payments()) == 3


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_who_only_reads_is_told_the_way_out(tmp_path: Path, options: dict[str, bool]) -> None:
    url = edition_2(tmp_path)
    with pytest.raises(InputError) as error:
        Ledger(url, **options)  # type: ignore[arg-type]
    assert "a ledger of edition 4" in str(error.value)
    assert "edition 2" in str(error.value)
    assert "`edgepact serve` brings it up to date" in str(error.value)
    before = sqlite3.connect(tmp_path / "ledger.db")
    assert before.execute("select value from facts where name = 'schema'").fetchone() == ("2",)
    before.close()


def test_migrations_do_not_import_todays_tables() -> None:
    """A step does the same whatever later editions make of the tables."""
    import inspect

    from edgepact.market.ledger.migrations import edition_3

    text = inspect.getsource(edition_3)
    assert "double_entry" not in text
    assert "records" not in text
