"""Devices of a run have images of their own, as long as there are enough."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepact.inference.models import samples
from edgepact.jobs.classification import find_images
from edgepact.pacts.partition_shares import REPEAT_ROUNDS, shared_out


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(1, 160), st.integers(1, 5), st.integers(0, 2**31))
def test_nobody_has_anothers_image_and_all_have_enough(
    devices: int, per_round: int, rounds: int, seed: int
) -> None:
    names = [f"cam-{at}" for at in range(devices)]
    count = len(find_images(samples()))
    with shared_out(samples(), names, per_round=per_round, rounds=rounds, seed=seed) as shares:
        found = {
            name: {picture.path.relative_to(folder) for picture in find_images(folder)}
            for name, folder in shares.folders.items()
        }
        assert (shares.repeat_rounds == 0) == (devices * per_round > count)
        assert shares.repeat_rounds <= min(rounds, REPEAT_ROUNDS)
        if shares.repeat_rounds == 0:
            assert set(shares.folders.values()) == {samples()}
            return
        for own in found.values():
            assert len(own) >= shares.repeat_rounds * per_round
        assert len(set.union(*found.values())) == sum(map(len, found.values())) <= count
        name, folder = next(iter(shares.folders.items()))
        for file in found[name]:  # by the name it has in the whole folder
            assert (folder / file).read_bytes() == (samples() / file).read_bytes()
    assert not folder.exists()


def test_a_flat_folder_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flat").mkdir()
    for at, picture in enumerate(find_images(samples())[:5]):
        shutil.copy(picture.path, tmp_path / "flat" / f"{at}.png")
    monkeypatch.chdir(tmp_path)
    with shared_out(Path("flat"), ["a", "b"], per_round=2, rounds=1, seed=1) as shares:
        assert [len(find_images(each)) for each in shares.folders.values()] == [3, 2]
        assert all(each.path.read_bytes() for each in find_images(shares.folders["a"]))
    assert capsys.readouterr().err == ""
    with shared_out(Path("flat"), ["a", "b"], per_round=3, rounds=1, seed=1) as shares:
        assert shares.repeat_rounds == 0
    assert "too few" in capsys.readouterr().err
