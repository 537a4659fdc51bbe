"""TOML out: what a run hands on as a file, such as the public part of a scenario."""

import json
from typing import Any


def written_toml(document: dict[str, Any]) -> str:
    """A document of numbers, texts, truth values, lists and tables of these, or lists of tables."""
    plain = {name: value for name, value in document.items() if not _nested(value)}
    lines = [_line(name, value) for name, value in plain.items()]
    for name, value in document.items():
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, dict):
                head = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
                lines += ["", head, *(_line(key, each) for key, each in table.items())]
    return "\n".join(lines) + "\n"


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(each, dict) for each in value)
    )


def _line(name: str, value: Any) -> str:
    return f"{name} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)
