"""`edgepact ledger` and `edgepact token`, and what a server thinks of its ledger at the start."""

import csv
import json
import sqlite3
from pathlib import Path

import pyarrow.parquet
import pytest

from edgepact.errors import InputError, MarketError
from edgepact.market.ledger import Ledger
from edgepact.market.ledger.seals import expect_whole, read_seal, seal_file, write_seal
from edgepact.market.ledger.signing import ServerKey, key_file, read_signed
from tests.market.ledger_cases import (
    PRICE,
    delivered,
    forfeit,
    open_ledger,
    picking,
    piece,
    with_round,
)
from tests.test_cli import Answer, edgepact

DEVICES = ("cam-1", "cam-3")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a ledger with jobs in every state, whose server has its key beside it."""
    with open_ledger(tmp_path) as ledger:
        ledger.note_server(ServerKey(key_file(ledger.file)).public)
        with_round(ledger, 1, devices=DEVICES)
        delivered(ledger, *(piece(name=name) for name in "abcd"), piece("cam-3", "z"))
        ledger.settle(1, "cam-1", draw=picking("d"))
        ledger.expire("cam-1", "d")
        with_round(ledger, 2, devices=DEVICES)
        delivered(ledger, piece(name="e", round=2))
        forfeit(ledger, "cam-3", 1, strikes_max=1)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def altered(url: str, statement: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as books:
        assert books.execute(statement).rowcount
    books.close()


def ran(*arguments: object) -> Answer:
    answer = edgepact(*arguments)
    assert answer.status == 0, answer.err
    return answer


def refused(*arguments: object, says: str) -> None:
    answer = edgepact(*arguments)
    assert answer.status == 2
    assert says in answer.err
    assert len(answer.err.splitlines()) == 1


MORE = "update accounts set balance_microcredits = balance_microcredits + 1 where account = "


class TestShow:
    def test_it_need_not_be_named(self, url: str) -> None:
        said = [ran("ledger", *rest, "--json").out for rest in ([url], ["show", url])]
        assert said[0] == said[1] == ran("ledger", "--json", url).out
        told = json.loads(said[0])
        assert told["balanced"] is True
        assert told["jobs"] == {"pending": 1, "paid": 3, "forfeit": 1, "expired": 1}
        assert told["paid_microcredits_by_round"] == {"1": {"cam-1": 9 * PRICE}}
        assert told["devices"]["cam-3"] == {
            "paid_microcredits": 0,
            "pending_microcredits": 0,
            "strikes": 1,
            "excluded": True,
            "revoked": False,
        }

    def test_tables(self, url: str) -> None:
        out = ran("ledger", url).out
        assert "The books balance; jobs: 1 expired, 1 forfeit, 3 paid, 1 pending" in out
        assert "excluded" in out

    def test_many_rounds_and_devices_have_a_table_of_bounded_size(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            for number in range(1, 31):
                ledger.open_work_round(number, model="m")
            from edgepact.market.ledger import Work

            for at in range(12):
                ledger.admit(f"d{at}")
                for number in range(1, 31):
                    ledger.pay_work(
                        Work(
                            device=f"d{at}",
                            job=f"{number}",
                            round=number,
                            microcredits=5,
                            digest=bytes(32),
                        )
                    )
        out = ran("ledger", f"sqlite:///{tmp_path / 'ledger.db'}").out
        assert "10 earlier rounds" in out
        assert "all of them" in out

    def test_books_that_do_not_balance_are_status_1(self, url: str) -> None:
        altered(url, f"{MORE}'device:cam-1'")
        answer = edgepact("ledger", url)
        assert answer.status == 1
        assert "DO NOT BALANCE" in answer.out
        assert "device:cam-1" in answer.out
        answer = edgepact("ledger", url, "--json")
        assert answer.status == 1
        assert json.loads(answer.out)["unbalanced_accounts"] == ["device:cam-1"]

    @pytest.mark.parametrize("typed", ["chekc", "sqlite:///none.db"])
    def test_what_is_neither_command_nor_ledger_is_told(self, typed: str) -> None:
        refused("ledger", typed, says=typed.removeprefix("sqlite:///"))


class TestCheck:
    def test_whole(self, url: str) -> None:
        told = json.loads(ran("ledger", "check", url, "--json").out)
        assert (told["whole"], told["wrong"], told["transfers"]) == (True, [], 9)
        assert "is whole: 9 transfers" in ran("ledger", "check", url).out

    @pytest.mark.parametrize(
        "statement",
        [
            "update transfers set microcredits = microcredits + 1 where id = 2",
            "update pieces set units = 9 where piece = 'a'",
            "delete from transfers where id = 9",
        ],
    )
    def test_not_whole_is_status_1_and_leaves_no_seal(
        self, url: str, statement: str, tmp_path: Path
    ) -> None:
        altered(url, statement)
        head = tmp_path / "head.json"
        answer = edgepact("ledger", "check", url, "--save-head", head)
        assert answer.status == 1
        assert "is NOT whole" in answer.out
        assert not head.exists()
        told = json.loads(edgepact("ledger", "check", url, "--json").out)
        assert not told["whole"]
        assert told["wrong"]

    def test_a_kept_head_shows_that_books_were_cut(self, url: str, tmp_path: Path) -> None:
        head, copy = tmp_path / "head.json", tmp_path / "copy.db"
        ran("ledger", "backup", url, "--out", copy)
        with Ledger(url) as ledger:
            ledger.settle(2, "cam-1")
        ran("ledger", "check", url, "--save-head", head)
        ran("ledger", "check", url, "--head", head)
        answer = edgepact(
            *("ledger", "check", f"sqlite:///{copy}"),
            *("--head", head, "--key", tmp_path / "ledger.db.key"),
        )  # fmt: skip
        assert answer.status == 1
        assert "the books were cut: they held transfer 10" in answer.out

    def test_a_head_that_was_altered_or_is_anothers_is_refused(
        self, url: str, tmp_path: Path
    ) -> None:
        head = tmp_path / "head.json"
        ran("ledger", "check", url, "--save-head", head)
        told = json.loads(head.read_text())
        head.write_text(json.dumps({**told, "id": 3}))
        refused("ledger", "check", url, "--head", head, says="signature")
        with Ledger(url, read_only=True) as ledger:
            write_seal(head, ledger.seal(), ServerKey(tmp_path / "other.key"))
        refused("ledger", "check", url, "--head", head, says="public")
        refused("ledger", "check", url, "--head", tmp_path / "none.json", says="none.json")
        head.write_text("[]")
        refused("ledger", "check", url, "--head", head, says="signed JSON document")


class TestExport:
    def test_both_forms_hold_the_same_rows(self, url: str, tmp_path: Path) -> None:
        out = tmp_path / "out"
        told = json.loads(ran("ledger", "export", url, "--out", out, "--json").out)
        assert told == {"transfers": 9, "pieces": 6, "verdicts": 1}
        for table, count in told.items():
            rows = pyarrow.parquet.read_table(out / f"{table}.parquet").to_pylist()
            with (out / f"{table}.csv").open(newline="") as file:
                lines = list(csv.DictReader(file))
            assert len(rows) == len(lines) == count
            for row, line in zip(rows, lines, strict=True):
                for name, value in row.items():
                    as_text = "" if value is None else str(value)
                    expected = as_text.lower() if isinstance(value, bool) else as_text
                    if isinstance(value, float):
                        assert float(line[name]) == value
                    else:
                        assert line[name] == expected
        pieces = pyarrow.parquet.read_table(out / "pieces.parquet").to_pylist()
        assert {row["piece"]: row["state"] for row in pieces} == {
            "a": "paid", "b": "paid", "c": "paid", "d": "expired", "e": "pending", "z": "forfeit",
        }  # fmt: skip
        refused("ledger", "export", url, "--out", out, says="new or empty folder")
        refused("ledger", "export", url, "--out", out / "pieces.csv", says="new or empty folder")

    def test_of_many_rows_few_are_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edgepact.market import exported

        monkeypatch.setattr(exported, "ROWS_AT_ONCE", 3)
        with open_ledger(tmp_path) as ledger:
            with_round(ledger, units=100)
            delivered(ledger, *(piece(name=f"{n}") for n in range(10)))
        counts = exported.export(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "out")
        assert counts["pieces"] == 10
        table = pyarrow.parquet.read_table(tmp_path / "out" / "pieces.parquet")
        assert table.column("piece").to_pylist() == [f"{n}" for n in range(10)]


class TestStatement:
    def test_it_is_signed_and_adds_up(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "cam-1.json"
        ran("ledger", "statement", "cam-1", url, "--out", file)
        told = json.loads(file.read_text())
        assert told["paid_microcredits"] == 9 * PRICE
        assert told["pending_microcredits"] == 3 * PRICE
        assert told["rounds"][0]["paid"] == {"pieces": 3, "units": 3, "microcredits": 9 * PRICE}
        assert told["rounds"][0]["expired"]["pieces"] == 1
        assert told["rounds"][1]["pending"]["microcredits"] == 3 * PRICE
        out = ran("ledger", "statement", "--verify", file).out
        assert f"cam-1: {9 * PRICE} micro-credits paid" in out
        key = ServerKey(tmp_path / "ledger.db.key").public
        ran("ledger", "statement", "--verify", file, "--public", key)
        refused("ledger", "statement", "--verify", file, "--public", "ab" * 32, says="ab" * 32)
        file.write_text(json.dumps(told | {"paid_microcredits": 1}))
        refused("ledger", "statement", "--verify", file, says="signature")
        printed = json.loads(ran("ledger", "statement", "cam-3", url).out)
        assert printed["excluded"] is True
        assert printed["verdicts"][0]["told"]["verdict"] == "forfeit"

    def test_altered_books_are_not_signed(self, url: str, tmp_path: Path) -> None:
        altered(url, "update transfers set microcredits = microcredits + 1 where id = 2")
        file = tmp_path / "cam-1.json"
        answer = edgepact("ledger", "statement", "cam-1", url, "--out", file)
        assert answer.status == 1
        assert "NOT whole" in answer.err
        assert not file.exists()

    def test_no_key_is_made_and_no_other_is_taken(self, url: str, tmp_path: Path) -> None:
        own, moved = tmp_path / "ledger.db.key", tmp_path / "server.key"
        own.rename(moved)
        out = tmp_path / "out.json"
        signing = (
            ("ledger", "statement", "cam-1", url, "--out", out),
            ("ledger", "check", url, "--save-head", out),
        )
        for command in signing:
            refused(*command, says="ledger.db.key: expected the key of the ledger's server; --key")
        assert not own.exists()
        ran("ledger", "check", url)
        ServerKey(own)
        for command in signing:
            refused(*command, says="found another")
            assert not out.exists()
            ran(*command, "--key", moved)
            out.unlink()

    def test_who_is_not_enrolled_has_none(self, url: str) -> None:
        refused("ledger", "statement", "cam-9", url, says="cam-9")
        refused("ledger", "statement", says="--verify")

    def test_a_seal_is_no_statement(self, url: str, tmp_path: Path) -> None:
        head = tmp_path / "head.json"
        ran("ledger", "check", url, "--save-head", head)
        refused("ledger", "statement", "--verify", head, says="statement of a device")
        statement = tmp_path / "s.json"
        ran("ledger", "statement", "cam-1", url, "--out", statement)
        refused("ledger", "check", url, "--head", statement, says="seal of a ledger")

    def test_a_signature_holds_for_every_field(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "s.json"
        ran("ledger", "statement", "cam-1", url, "--out", file)
        told = json.loads(file.read_text())
        for name in told:
            file.write_text(json.dumps({**told, name: "0" * 128}))
            with pytest.raises(InputError):
                read_signed(file)
            file.write_text(json.dumps({each: v for each, v in told.items() if each != name}))
            with pytest.raises(InputError):
                read_signed(file)
        file.write_text(json.dumps({**told, "more": 1}))
        with pytest.raises(InputError):
            read_signed(file)


class TestBackup:
    def test_a_copy_while_others_write(self, url: str, tmp_path: Path) -> None:
        copy = tmp_path / "copy.db"
        with Ledger(url) as ledger, ledger.together():
            delivered(ledger, piece(name="n", round=2))
            assert "whole" in ran("ledger", "backup", url, "--out", copy).out
        with Ledger(f"sqlite:///{copy}", read_only=True) as books:
            assert "n" not in books.pieces_of("cam-1", 2)
            assert "e" in books.pieces_of("cam-1", 2)
        refused("ledger", "backup", url, "--out", copy, says="new file")
        refused("ledger", "backup", url, "--out", tmp_path / "no" / "c.db", says="c.db")

    def test_a_copy_of_what_is_not_whole_is_status_1(self, url: str, tmp_path: Path) -> None:
        altered(url, "delete from transfers where id = 2")
        assert edgepact("ledger", "backup", url, "--out", tmp_path / "copy.db").status == 1


def test_reading_commands_change_nothing(url: str, tmp_path: Path) -> None:
    before = (tmp_path / "ledger.db").read_bytes()
    for command in (
        ["ledger", url],
        ["ledger", "check", url],
        ["ledger", "export", url, "--out", tmp_path / "out"],
        ["ledger", "statement", "cam-1", url],
        ["ledger", "backup", url, "--out", tmp_path / "copy.db"],
        ["token", "list", "--ledger", url],
    ):
        ran(*command)
    assert (tmp_path / "ledger.db").read_bytes() == before


class TestToken:
    def test_issue_list_revoke(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        made = json.loads(ran("token", "issue", "--count", 3, "--ledger", url, "--json").out)
        again = ran("token", "issue", "--valid", 0.5, "--ledger", url)
        assert "new ledger" not in again.err
        line = again.out.split()
        made.append({"token": line[0], "label": line[1]})
        with Ledger(url) as ledger:
            assert all(ledger.admits(each["token"]) for each in made)
            ledger.enrol(made[0]["token"], "cam-1")
        ran("token", "revoke", made[1]["label"], "--ledger", url)
        told = json.loads(ran("token", "list", "--ledger", url, "--json").out)
        states = {each["label"]: each["state"] for each in told["tokens"]}
        assert [states[each["label"]] for each in made] == ["used", "revoked", "open", "open"]
        assert (told["tokens"][-1]["expires_s"] is None) == (made[-1] is None)
        assert told["devices"] == [{"name": "cam-1", "strikes": 0, "state": "enrolled"}]
        ran("token", "revoke", "cam-1", "--ledger", url)
        assert "revoked" in ran("token", "list", "--ledger", url).out
        with Ledger(url) as ledger:
            assert not ledger.admits(made[1]["token"])
        assert not any(each["token"] in ran("token", "list", "--ledger", url).out for each in made)

    def test_an_excluded_device_comes_back_by_its_operator(self, url: str) -> None:
        ran("token", "readmit", "cam-3", "--ledger", url)
        with Ledger(url) as ledger:
            assert (ledger.shut_out(), ledger.strikes()) == ({}, {})
        assert "not shut out" in ran("token", "readmit", "cam-3", "--ledger", url).out
        for command in (["revoke", "nobody"], ["readmit", "nobody"]):
            refused("token", *command, "--ledger", url, says="nobody")

    def test_a_ledger_that_is_made_is_told(self, tmp_path: Path) -> None:
        answer = ran("token", "issue", "--ledger", f"sqlite:///{tmp_path / 'typo.db'}")
        assert "new ledger" in answer.err
        assert "typo.db" in answer.err
        assert len(answer.out.split()) == 2

    def test_a_wrong_path_is_told(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'none.db'}"
        for command in (["list"], ["revoke", "x"], ["readmit", "x"]):
            refused("token", *command, "--ledger", url, says="none.db")
        assert not (tmp_path / "none.db").exists()


class TestServersSeal:
    def whole(self, url: str) -> None:
        with Ledger(url) as ledger:
            own = key_file(ledger.file)
            expect_whole(ledger, ServerKey(own), seal_file(own))

    def test_a_server_starts_on_books_that_go_on(self, url: str, tmp_path: Path) -> None:
        self.whole(url)
        with Ledger(url) as ledger:
            delivered(ledger, piece(name="n", round=2))
            assert read_seal(tmp_path / "ledger.db.seal").id == 9
        self.whole(url)
        assert read_seal(tmp_path / "ledger.db.seal").id == 10

    @pytest.mark.parametrize("sealed", [False, True])
    def test_it_does_not_on_others(self, url: str, sealed: bool) -> None:
        if sealed:
            self.whole(url)
        altered(url, f"{MORE}'device:cam-1'")
        with pytest.raises(MarketError, match=r"is not whole: .*`edgepact ledger check` tells all"):
            self.whole(url)

    def test_it_tells_the_way_out_if_an_older_ledger_was_put_back(
        self, url: str, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy.db"
        ran("ledger", "backup", url, "--out", copy)
        with Ledger(url) as ledger:
            ledger.settle(2, "cam-1")
        self.whole(url)
        for file in tmp_path.glob("ledger.db*"):
            if not file.name.endswith((".key", ".seal")):
                file.unlink()
        copy.rename(tmp_path / "ledger.db")
        with pytest.raises(MarketError, match=r"books were cut.*remove .*ledger\.db\.seal"):
            self.whole(url)
        (tmp_path / "ledger.db.seal").unlink()
        self.whole(url)

    def test_serve_does_not_start_on_them(self, url: str) -> None:
        altered(url, "update transfers set microcredits = microcredits + 1 where id = 2")
        refused(
            "serve", "--price", 1, "--port", 0, "--ledger", url, says="is not whole: transfer 2"
        )
        with Ledger(url) as ledger:
            ledger.lead("another")  # the lease was let go

    def test_a_seal_of_another_key_is_refused(self, url: str, tmp_path: Path) -> None:
        self.whole(url)
        (tmp_path / "ledger.db.key").unlink()
        with pytest.raises(InputError, match="public"):
            self.whole(url)
