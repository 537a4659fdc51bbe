"""Fields of files and messages: what is accepted, and what is said of the rest."""

import gzip
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import SENTENCE_CHARS_MAX, SHOWN_CHARS_MAX, InputError, shown
from edgepact.fields import (
    SIZE_MAX,
    SIZE_MIN,
    Table,
    check_choice,
    check_column,
    check_flag,
    check_list,
    check_number,
    check_table,
    check_text,
    check_whole,
    load,
    nearest,
)
from edgepact.files.stackelberg import read_game

ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(10**300, 10**320),
        st.floats(),
        st.text(),
        st.binary(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)

CHECKS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (check_number, {}),
    (check_number, {"above": 0.0}),
    (check_number, {"least": -1.0, "most": 1.0, "sized": False}),
    (check_whole, {"least": 0, "most": 9}),
    (check_text, {}),
    (check_text, {"chars_max": 4}),
    (check_choice, {"options": ("one", "two")}),
    (check_flag, {}),
    (check_list, {"of": "sizes", "most": 2}),
    (check_table, {}),
]


@given(ANYTHING)
def test_whatever_is_shown_is_one_short_line_that_any_terminal_can_be_handed(value: Any) -> None:
    text = shown(value)
    assert 1 <= len(text) <= SHOWN_CHARS_MAX
    assert text.isprintable()


@given(source=st.text(max_size=9), field=st.text(max_size=2000), found=ANYTHING)
def test_a_message_is_one_bounded_line(source: str, field: str, found: Any) -> None:
    text = str(InputError(source, field, "a number", found))
    assert text.isprintable()
    assert len(text) <= 3 * SENTENCE_CHARS_MAX + 30


@pytest.mark.parametrize(("check", "terms"), CHECKS)
@given(value=ANYTHING)
def test_a_value_passes_as_it_is_or_is_refused(
    check: Callable[..., Any], terms: dict[str, Any], value: Any
) -> None:
    error = None
    try:
        assert check("offer", "field", value, **terms) == value
    except InputError as refused:
        error = refused
    if error is not None:
        assert (error.source, error.field) == ("offer", "field")
        assert str(error).startswith("offer: field: expected ")


@pytest.mark.parametrize("field", ["enrol.token", "token", "enrol_token", "--token", "password"])
@pytest.mark.parametrize("value", ["hunter2hunter2", ["hunter2hunter2"], 7])
def test_no_message_repeats_a_secret(field: str, value: Any) -> None:
    for refuse in (
        lambda: check_text("enrol", field, value, chars_max=3),
        lambda: check_flag("enrol", field, value),
    ):
        with pytest.raises(InputError) as refused:
            refuse()
        assert "hunter2" not in f"{refused.value}{refused.value.found}"
        assert "7" not in str(refused.value)
        assert ", found another " in str(refused.value)
    with pytest.raises(InputError, match="found nothing"):
        check_flag("enrol", field, None)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1e31, f"a number of at most {SIZE_MAX:g}, found 1e+31"),
        (10**400, f"a number of at most {SIZE_MAX:g}, found a whole number of 1329 bits"),
        (-1e31, f"one of at least {-SIZE_MAX:g}, found -1e+31"),
        (1e-31, f"0 or a number of a size of at least {SIZE_MIN:g}, found 1e-31"),
        (math.inf, "a finite number, found inf"),
        (True, "a finite number, found true"),
        ("3", 'a finite number, found "3"'),
    ],
)
def test_a_number_that_is_refused_is_told_its_limit(value: Any, says: str) -> None:
    with pytest.raises(InputError) as refused:
        check_number("here", "x", value)
    assert str(refused.value) == f"here: x: expected {says}"


@given(st.lists(st.floats(), min_size=1), st.booleans())
def test_a_column_is_checked_as_its_numbers_are(values: list[float], strict: bool) -> None:
    bound = {"above": 0.0} if strict else {"least": 0.0}
    wrong = []
    for at, value in enumerate(values, start=1):
        try:
            check_number("here", f"row[{at}].x", value, **bound)
        except InputError as error:
            wrong.append(str(error))
    if not wrong:
        column = np.array(values)
        assert check_column("here", "row", "x", column, strict=strict) is column
        return
    with pytest.raises(InputError) as refused:
        check_column("here", "row", "x", np.array(values), strict=strict)
    assert str(refused.value) == wrong[0]


NAMES = ("alpha", "capacity", "price_min", "price_max", "layers_max", "A", "B", "name")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("capcity", "capacity"),
        ("Capacity", "capacity"),
        ("layersmax", "layers_max"),
        ("layer_max", "layers_max"),
        ("layers-max", "layers_max"),
        ("price_mn", "price_min"),
        ("a", "A"),
        ("C", None),
        ("colour", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_a_misspelling_is_recognised(word: str, meant: str | None) -> None:
    assert nearest(word, NAMES) == meant


def test_one_name_is_no_misspelling_of_another() -> None:
    for name in NAMES:
        assert nearest(name, [each for each in NAMES if each != name]) is None


def table(**values: Any) -> Table:
    return Table(Path("market.toml"), "server", values)


class TestTable:
    def test_a_misspelt_key_is_shown_where_its_field_is_missed(self) -> None:
        with pytest.raises(InputError) as refused:
            table(price_mx=3.0).number("price_max")
        assert str(refused.value) == (
            "market.toml: server.price_max: expected a finite number, found nothing, but "
            '"price_mx"; did you mean `price_max`?'
        )

    def test_a_misspelt_key_of_a_field_that_may_be_left_out_is_shown_too(self) -> None:
        server = table(budgte=3.0)
        assert "budget" not in server
        with pytest.raises(InputError, match=r"server\.budgte: .* did you mean `budget`\?"):
            server.close()

    def test_a_misspelt_word_is_shown(self) -> None:
        with pytest.raises(InputError, match=r'found "integr"; did you mean "integer"\?'):
            table(layers="integr").choice("layers", ("integer", "continuous"))

    def test_a_key_that_could_be_overlooked_is_quoted(self) -> None:
        for key, told in (("", 'server."": '), (" a", 'server." a": '), ("a\nb", r'"a\nb": ')):
            with pytest.raises(InputError) as refused:
                table(**{key: 1}).close()
            assert told in str(refused.value)

    def test_an_interval_names_both_ends(self) -> None:
        assert table(low=1, high=1).interval("low", "high", least=0.0) == (1.0, 1.0)
        with pytest.raises(InputError) as refused:
            table(price_min=4.0, price_max=3.5).interval("price_min", "price_max", least=0.0)
        assert str(refused.value) == (
            "market.toml: server.price_max: expected a number of at least server.price_min, "
            "found 3.5 beside server.price_min = 4.0"
        )
        with pytest.raises(InputError, match=r"above server\.low"):
            table(low=1, high=1).interval("low", "high", least=0.0, strict=True)

    def test_an_end_that_nobody_stated_is_not_named(self) -> None:
        with pytest.raises(InputError, match=r"server\.high: expected a finite number above 0, f"):
            table(high=0).interval("low", "high", low_default=0.0, least=0.0, strict=True)


class TestLoad:
    TEXT = 'mechanism = "stackelberg"\nname = "Küche"\n'

    @pytest.mark.parametrize("start", ["", "\ufeff", "\ufeff\ufeff", "\ufeff\r\n", "# von Hand\n"])
    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path, start: str) -> None:
        path = tmp_path / "a.toml"
        path.write_bytes((start + self.TEXT).encode())
        assert load(path) == {"mechanism": "stackelberg", "name": "Küche"}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (TEXT.encode("utf-16"), "found a byte order mark of UTF-16: save it as UTF-8"),
            (TEXT.encode("utf-16-le"), "UTF-16"),
            (TEXT.encode("latin-1"), "found a byte of another encoding (0xfc, line 2): save it"),
            (gzip.compress(TEXT.encode(), mtime=0), "found a compressed file (gzip): unpack it"),
            (b"PK\x03\x04rest", "an archive or a spreadsheet"),
            (b"a = = 3", "line 1, column 5: expected TOML, found"),
            (b"a = 1\nb = 2,5  # of 3\n", "line 2, column 6: expected TOML, found"),
            (b"b = 2,5", "numbers have a decimal point, not a comma"),
            (b"b = [2,5", "expected TOML, found"),  # it ends too soon: no line is told
            (b"[device]\n[device]\n", "of several each is written [[device]]"),
            (b"[a]\nname = 1\n\nname = 2\n", "is a line such as [job] or [[device]] missing"),
        ],
    )
    def test_what_is_no_toml_in_utf8_is_named(
        self, tmp_path: Path, content: bytes, says: str
    ) -> None:
        path = tmp_path / "a.toml"
        path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            load(path)
        assert says in str(refused.value)

    def test_a_folder_and_nothing_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="expected a TOML file, found a folder"):
            load(tmp_path)
        with pytest.raises(InputError, match="expected a TOML file, found none there"):
            load(tmp_path / "none.toml")
        market = tmp_path / "market.toml"
        (tmp_path / "fleet.csv").mkdir()
        market.write_text(
            'mechanism = "stackelberg"\ndevices = "fleet.csv"\n[server]\nrevenue = 1.0\n'
            "beta = 1.0\nlayers_max = 3\nprice_min = 0.0\nprice_max = 1.0\n"
        )
        with pytest.raises(InputError, match="devices: expected a file that exists, found a f"):
            read_game(market)


def test_a_device_can_load_it() -> None:
    heavy = "import sys, edgepact.fields; print(*sorted({'jax', 'equinox', 'pyarrow', 'scipy'}"
    done = subprocess.run(
        [sys.executable, "-c", heavy + " & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
