"""The file that leads a browser to the live page of a run."""

import stat
import webbrowser
from pathlib import Path

import pytest

from edgepact.live.opened import FILE, opened

ADDRESS = "http://127.0.0.1:8080/page#token=secret"


def test_the_token_stands_in_a_file_of_its_owner_while_the_run_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(asked.append(address)) or True)
    file = tmp_path / FILE
    with opened(tmp_path, asked=True) as show:
        show(tmp_path, ADDRESS)
        assert asked == [file.as_uri()], "no program is told the token"
        assert ADDRESS in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.exists()


def test_without_a_browser_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    with opened(tmp_path, asked=True) as show:
        show(tmp_path, ADDRESS)
    told = capsys.readouterr().out
    assert str(tmp_path / FILE) in told
    assert "secret" not in told


def test_nothing_is_opened_that_nobody_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path, asked=False) as show:
        show(tmp_path, ADDRESS)
        assert not (tmp_path / FILE).exists()


def test_a_folder_that_is_none_is_told_by_whoever_makes_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LookupError, match="of the run"),
        opened(tmp_path / "file" / "out", asked=True),
    ):
        raise LookupError("of the run")
