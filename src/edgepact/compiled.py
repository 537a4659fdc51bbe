"""Programs that JAX has compiled, kept between runs in the user's cache folder.

Learning a price takes a fifth of a second after ten of compiling. What was compiled is kept
in `$XDG_CACHE_HOME/edgepact/jax` (`~/.cache/edgepact/jax`), at most `BYTES_MAX` of it, the
least recently used dropped first. Whoever compiles calls `keep_compiled` first: training,
studies, environments, the main job.

- `EDGEPACT_JAX_CACHE=off` keeps nothing; a folder in it is used instead of the user's.
- A folder that JAX was told of by other ways (`JAX_COMPILATION_CACHE_DIR`) is left as it is.
- Nothing fails where the folder cannot be written: programs are compiled then, as ever.

Compiled programs are trusted code: the folder belongs to the user alone.

Programs of jaxlib 0.10 on processors now and then never end: PPO on eight menu designs side by side
hung within fifty epochs, in threads that all wait for work. Without the scheduler that orders a
program for concurrency, or with jaxlib 0.11.2, four hundred went through. So 0.10 does without it,
from `import edgepact` on: XLA reads its flags before the first program, which may be a user's own.
"""

import os
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

VARIABLE = "EDGEPACT_JAX_CACHE"
"""Environment variable that names another folder, or `off`."""

BYTES_MAX = 512 * 2**20
"""Most bytes kept."""

COMPILE_S_MIN = 0.1
"""Programs that compile faster are not worth a file."""

FLAGS = "XLA_FLAGS"
"""Environment variable that XLA reads before its first program."""

IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def keep_compiled() -> Path | None:
    """Has JAX keep what it compiles from here on; returns where, or None for nowhere.

    It may be called as often as one likes.
    """
    import jax

    settings: Any = jax.config  # its names are made at run time, unknown to type checkers
    # A file that another process is writing, or has just dropped: it is compiled as ever.
    harmless = "Error (reading|writing) persistent compilation cache entry"
    warnings.filterwarnings("ignore", harmless, UserWarning)
    already = settings.jax_compilation_cache_dir
    if already is not None:
        return Path(already)
    folder = _folder()
    if folder is None or not _can_be_written(folder):
        return None
    from jax.experimental.compilation_cache import compilation_cache

    settings.update("jax_compilation_cache_dir", str(folder))
    settings.update("jax_compilation_cache_max_size", BYTES_MAX)
    settings.update("jax_persistent_cache_min_compile_time_secs", COMPILE_S_MIN)
    # What was compiled before has settled that there is no cache; it is asked again.
    compilation_cache.reset_cache()
    return folder


def have_programs_end() -> None:
    """Leaves out of XLA what makes programs of jaxlib 0.10 hang; own flags of the user stay.

    It has to come before the first program, and what is kept is found again by equal flags only.
    """
    try:
        released = version("jaxlib")
    except PackageNotFoundError:  # devices do without
        return
    flags = os.environ.get(FLAGS, "")
    # Other versions may not know the flag, and end the process for it.
    if released.startswith("0.10.") and IN_ORDER.partition("=")[0] not in flags:
        os.environ[FLAGS] = f"{flags} {IN_ORDER}".strip()


def _folder() -> Path | None:
    said = os.environ.get(VARIABLE, "")
    if said.lower() in ("off", "0", "no", "false"):
        return None
    if said:
        return Path(said)
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has paths that are not absolute ignored.
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.cache"))
    return base / "edgepact" / "jax"


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False
