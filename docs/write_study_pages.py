"""Puts what studies wrote into docs/studies: each `page.md` and the pictures that it shows.

Run `python docs/write_study_pages.py FOLDER...` after `edgepact study NAME --out FOLDER`. A smoke
run is refused, and so is a picture that is no PNG of the style `page`. What stands in docs/studies
is replaced, with the note at its head that it was made by an earlier version, where it has one.
"""

import re
import shutil
import sys
from pathlib import Path

from edgepact.api import load_study
from edgepact.errors import InputError

PAGES = Path(__file__).parent / "studies"
PICTURE = re.compile(r"!\[[^]]*\]\(([\w-]+\.png)\)")


def put(folder: Path, pages: Path = PAGES) -> Path:
    """Copies the page of a folder and its pictures.

    Args:
        folder: that `edgepact study` wrote.
        pages: where pages of studies are.

    Returns:
        The page.

    Raises:
        InputError: there is no study in the folder, it is a smoke run, or its page or a PNG to show
            is not there.
    """
    found = load_study(folder)
    if found.smoke:
        raise InputError(folder, "--smoke", "a study in full size", "a smoke run")
    if (style := found.provenance.get("style", "page")) != "page":
        raise InputError(folder, "--style", "page", style)
    if not re.fullmatch(r"[\w-]+", found.study):
        raise InputError(folder, "study", "the name of a study", found.study)
    written = folder / "page.md"
    text = written.read_text(encoding="utf-8") if written.is_file() else ""
    pictures = PICTURE.findall(text)
    if not pictures:
        raise InputError(written, "--format", "a page that shows pictures in PNG", "none")
    for picture in pictures:
        if not (folder / picture).is_file():
            raise InputError(written, "", f"{picture} beside it", "no such file")
    for picture in pictures:
        shutil.copyfile(folder / picture, pages / picture)
    page = pages / f"{found.study}.md"
    page.write_text(text, encoding="utf-8")
    return page


if __name__ == "__main__":
    try:
        for each in sys.argv[1:]:
            print(put(Path(each)))
    except InputError as error:
        sys.exit(str(error))
