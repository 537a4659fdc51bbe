"""Inputs of one parser; the last line is what became of them, as JSON."""

import sys
import tempfile
from pathlib import Path

from chaos.fuzz import fuzz, told
from chaos.fuzz.parsers import parsers


def main() -> None:
    """The command line."""
    if not 3 <= len(sys.argv) <= 5:
        sys.exit('usage: python -m chaos.fuzz "PARSER" SEED [COUNT [FOLDER]]')
    name, seed, count = sys.argv[1], int(sys.argv[2]), int((sys.argv[3:] or ["1000"])[0])
    folder = Path(sys.argv[4]) if len(sys.argv) > 4 else Path(tempfile.mkdtemp())
    parser = next((each for each in parsers(folder) if each.name == name), None)
    if parser is None:
        sys.exit(f"no parser {name!r}; there are {[each.name for each in parsers(folder)]}")
    print(told(fuzz(parser, seed, count, folder)))


if __name__ == "__main__":
    main()
