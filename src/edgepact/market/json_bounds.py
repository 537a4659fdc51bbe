"""How much JSON a request may hold, counted before it is parsed.

A few megabytes of empty lists are millions of objects, and seconds of everybody's time. Counting
brackets and commas takes a thousandth of that.
"""

from edgepact.errors import InputError

LISTS_MAX = 2**16
"""Lists and objects of a request: more than nested images of 224 x 224 pixels have rows."""

VALUES_MAX = 2**18
"""Values of a request: six times an activation of 49 x 768."""


def check_json(source: str, text: bytes) -> None:
    """Expects JSON text to hold no more than tensors need.

    What stands inside texts is counted too, so this may be strict with long texts.

    Raises:
        InputError: more lists and objects, or more values, than a request needs.
    """
    lists = text.count(b"[") + text.count(b"{")
    if lists > LISTS_MAX:
        raise InputError(source, "", f"at most {LISTS_MAX} lists and objects", f"{lists} of them")
    values = text.count(b",") + text.count(b":") + lists
    if values > VALUES_MAX:
        expected = f"at most {VALUES_MAX} values as JSON; larger tensors travel as binary ones"
        raise InputError(source, "", expected, f"{values} of them")
