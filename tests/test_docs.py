"""Documentation runs: its code, its commands, its examples, its links."""

import importlib
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import typer

from edgepact import cli
from edgepact.files import mechanism_of
from edgepact.files.stackelberg import read_game
from edgepact.mechanisms.stackelberg.optimum import equilibrium
from edgepact.mechanisms.stackelberg.responses import outcome
from tests.test_cli import process

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
    ]
)
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.md"))
NEEDS_A_SERVER = ROOT / "docs" / "how-to" / "call-the-server.md"
NEEDS_A_DEVICE = ROOT / "docs" / "how-to" / "chat-with-a-split-model.md"
"""Its code runs against one in tests/market/test_oip_clients.py."""

EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").glob("*.toml"))
    if mechanism_of(path) == "stackelberg" and "server" in tomllib.loads(path.read_text())
]


def commands_in(group: typer.core.TyperGroup, before: str = "") -> dict[str, Any]:
    """Commands by their words; those of a group after it."""
    found = {}
    for name, command in group.commands.items():
        found[before + name] = command
        if isinstance(command, typer.core.TyperGroup):
            found |= commands_in(command, f"{before}{name} ")
    return found


COMMANDS = commands_in(typer.main.get_command(cli.app))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[tuple[list[str], str]]:
    """Commands of the console blocks, each with the output that is shown below it."""
    shown: list[tuple[list[str], str]] = []
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            shown.append((shlex.split(command), output.strip()))
    return shown


def run(*arguments: str, told: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        input=told,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=1200,
    )


RUN_PAGE = """
import doctest, sys
names = {}
for at, block in enumerate(sys.stdin.read().split("\\0"), start=1):
    if ">>>" in block:
        example = doctest.DocTestParser().get_doctest(block, names, f"block {at}", "page", 0)
        result = doctest.DocTestRunner().run(example, clear_globs=False)
        if result.failed:
            sys.exit(1)
        names = example.globs
    else:
        exec(compile(block, f"block {at}", "exec"), names)
"""


TUTORIALS = ROOT / "docs" / "tutorials"
"""Their blocks are run in order, in tests/test_tutorials.py."""

CODE_PAGES = [
    page
    for page in PAGES
    if blocks(page, "python")
    and page not in (NEEDS_A_SERVER, NEEDS_A_DEVICE)
    and page.parent != TUTORIALS
]


def test_clean_removes_all_that_git_ignores_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    made = [tmp_path / each.replace("*", "federated") for each in ignored]
    made += [tmp_path / "src" / "part" / "__pycache__", tmp_path / ".venv-ray"]
    kept = [tmp_path / name for name in ("src/part/a", "docs/a", "edgepact-ledger", "a.jsonl")]
    for folder in (*made, *kept):
        (folder / "some").mkdir(parents=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [folder for folder in made if folder.exists()] == []
    assert [folder for folder in kept if not folder.exists()] == []


@pytest.mark.parametrize("page", CODE_PAGES, ids=named)
def test_code_runs_and_says_what_it_shows(page: Path) -> None:
    # As a reader runs it: in an interpreter of its own, without the checks of types that slow
    # down what is called a thousand times.
    answer = run("-W", "error", "-c", RUN_PAGE, told="\0".join(blocks(page, "python")))
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout + answer.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=named)
def test_toml_is_toml(page: Path) -> None:
    for block in blocks(page, "toml"):
        assert tomllib.loads(block)


LANGUAGES = {"console", "json", "python", "text", "toml"}
"""Of blocks: commands, code and TOML are tested here, JSON is read, text is what is shown."""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_are_of_a_language_that_is_tested(page: Path) -> None:
    told = re.findall(r"^```([^`\n]*)\n.*?^```$", page.read_text("utf-8"), re.M | re.S)
    assert {each for each in told if not each.startswith("{")} <= LANGUAGES
    for block in blocks(page, "json"):
        assert json.loads(block)


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=named)
def test_commands_exist_and_print_what_is_shown(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words, output in commands_of(page):
        while "=" in words[0]:  # a variable set for this command alone
            words = words[1:]
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file()
        elif words[0] == "curl":
            assert page == NEEDS_A_SERVER
        elif words[:2] == ["pip", "install"]:
            assert (ROOT / words[-1]).exists() or words[-1].startswith("edgepact")
        else:
            assert words[0] == "edgepact"
            if words[1] == "ledger" and " ".join(words[1:3]) not in COMMANDS:
                words = [*words[:2], "show", *words[2:]]  # which need not be named
            named_by = 2 if isinstance(COMMANDS[words[1]], typer.core.TyperGroup) else 1
            name = " ".join(words[1 : 1 + named_by])
            # Parsing alone: unknown options and impossible values are errors.
            COMMANDS[name].make_context(name, words[1 + named_by :])
        if output:
            answer = process(*words[1:])
            assert answer.returncode == 0, answer.stderr
            assert_same(json.loads(answer.stdout), json.loads(output))


def assert_same(got: object, shown: object) -> None:
    """Equal, up to what another processor makes of the last digits."""
    if isinstance(shown, dict):
        assert isinstance(got, dict)
        assert list(got) == list(shown)
        for key in shown:
            assert_same(got[key], shown[key])
    elif isinstance(shown, list):
        assert isinstance(got, list)
        assert len(got) == len(shown)
        for one, other in zip(got, shown, strict=True):
            assert_same(one, other)
    elif isinstance(shown, str):
        assert got == shown
    else:
        assert got == pytest.approx(shown, rel=1e-6)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(
        r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )
    links += [f"{target}.md" for target in re.findall(r"\{doc\}`([^`]+)`", text)]
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link


def anchors(page: Path) -> set[str]:
    """What its headings can be linked to by, as forges and MyST spell it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=named)
def test_links_to_pages_work_on_a_forge_too(page: Path) -> None:
    assert re.findall(r"\{(?:doc|any|ref)\}`[^`]*`", page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_anchors_are_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        target = page.parent / file if file else page
        assert target.suffix != ".md" or anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_installing_names_no_index(page: Path) -> None:
    for line in page.read_text(encoding="utf-8").splitlines():
        if "pip install" in line:
            assert "://" not in line
            assert "index" not in line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help_and_a_place_in_the_docs(name: str) -> None:
    command = COMMANDS[name]
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert command.help
    assert f"`edgepact {name}" in (ROOT / "README.md").read_text(encoding="utf-8")
    for option in command.params:
        assert option.help or option.name == "help", f"{name} {option.name} has no help"
        for flag in option.opts:
            if flag.startswith("--"):
                assert re.search(rf"(?<![\w-]){flag}(?![\w-])", told), f"{name} {flag}"


def test_reference_of_the_command_line_is_current() -> None:
    writer = runpy.run_path(str(ROOT / "docs" / "write_cli_reference.py"))
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == writer["reference"](), "run `python docs/write_cli_reference.py`"


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_examples_solve_and_no_other_price_is_better(path: Path) -> None:
    game = read_game(path).game
    best = equilibrium(game)
    prices = np.linspace(game.price_min, game.price_max, 5001)[1:]
    assert np.max(outcome(game, prices).server_utility) <= best.server_utility + 1e-9
    assert np.sum(best.layers) > 0, "somebody takes part"


def test_the_live_example_is_about_the_embedded_model() -> None:
    from edgepact.efficiency.partition import LayerCosts
    from edgepact.inference.models import embedded

    costs = LayerCosts.of_model(embedded())
    game = read_game(ROOT / "examples" / "live.toml").game
    assert game.layers_max == costs.layers_max
    assert np.allclose(game.fleet.A, costs.A, rtol=0.01)
    assert np.allclose(game.fleet.B, costs.B, rtol=0.01)


def bridge() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bridge_toll", ROOT / "examples" / "bridge_toll.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bridge_toll"] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_problem_has_a_true_oracle() -> None:
    problem = bridge().BridgeToll(drivers=9)
    for seed in range(5):
        state = problem.reset(jax.random.key(seed))
        best = problem.optimum(state)
        _, payoff = problem.step(jax.random.key(0), state, problem.best_action(state))
        assert float(payoff.leader) == pytest.approx(float(best.leader), rel=0.12)
        actions = np.linspace(-1.0, 1.0, 401, dtype=np.float32)[:, None]
        others = jax.vmap(
            lambda action, state=state: problem.step(jax.random.key(0), state, action)
        )
        assert np.max(others(actions)[1].leader) <= float(best.leader) + 1e-4


@pytest.mark.slow
def test_the_diffusion_model_learns_the_example_problem() -> None:
    # A keeper who must post one toll to all days cannot reach what full knowledge of each
    # day's drivers would: 0.9 * 0.9 of them a head at best, with values uniform on [0.8, 1.8].
    problem = bridge().BridgeToll()
    days = jax.vmap(problem.reset)(jax.random.split(jax.random.key(1), 256))
    best = float(np.mean(jax.vmap(problem.optimum)(days).leader))
    blind = 0.9 * 0.9 * problem.drivers / best
    answer = run("examples/bridge_toll.py")
    assert answer.returncode == 0, answer.stderr
    share = float(answer.stdout.partition("%")[0]) / 100.0
    assert 0.97 * blind < share < 1.03 * blind


FORMULAS = "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("reference/formulas.md", "article.md")
)


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([a-z]\w*(?:\.\w+)+)`", FORMULAS)) - {"edgepact"})
)
def test_what_the_pages_of_formulas_and_of_the_article_name_is_there(name: str) -> None:
    parts = name.removeprefix("edgepact.").removesuffix(".py").split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["edgepact", *parts[:length]]))
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("edgepact."):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return
    pytest.fail(f"no module edgepact.{name}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_pages_include_of_the_source_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, options in re.findall(r"^```\{literalinclude\} (\S+)\n(.*?)^```$", text, re.M | re.S):
        source = (page.parent / file).read_text(encoding="utf-8")
        for name in re.findall(r"^:pyobject: (\w+)$", options, re.M):
            assert re.search(rf"^(class|def) {name}\b", source, re.M), f"{file}: {name}"
