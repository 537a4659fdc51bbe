"""Work that takes for ever, in a module that is read at once."""

import os
import time
from pathlib import Path

NAP_S = 3600.0


def nap(folder: str) -> None:
    """Says by which process it is had."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(NAP_S)
