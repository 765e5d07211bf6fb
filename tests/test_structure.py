"""The habits of this code base, kept by tests: imports, sizes, and what the folders' READMEs say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [name for name in ("agent", "skills", "tools", "training", "evals") if (ROOT / name).is_dir()]
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SLOW = ("torch", "transformers", "llama_cpp", "mcp", "openai", "numpy", "httpx", "ollama", "pypdf", "pyarrow")
LONGEST_FILE = 500
LONGEST_FUNCTION = 60


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_folders() -> list[Path]:
    """Every folder of the packages that holds Python files. (The tests' folders mirror them.)"""
    return sorted({path.parent for path in SOURCES if path.name != "__init__.py"})


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after running the code."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def imports_at_start(tree: ast.Module) -> Iterator[str]:
    """The modules that a file imports when it is imported itself, those for the type checker left out."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            for child in ast.iter_child_nodes(node):
                waiting += child.body if isinstance(child, ast.ExceptHandler) else []
                waiting += [child] if isinstance(child, ast.stmt) else []


@pytest.mark.parametrize("code", ["import agent", "import agent.cli, agent.loop, agent.doctor, tools.registry"])
def test_importing_the_agent_loads_nothing_slow(code: str) -> None:
    assert loaded_by(code) & set(SLOW) == set()


def test_help_loads_nothing_slow() -> None:
    code = "from agent.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert loaded_by(code) & {*SLOW, "rich", "pydantic", "prompt_toolkit"} == set()


def test_the_guard_sees_what_is_loaded() -> None:
    assert "httpx" in loaded_by("import httpx")


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_one_way(path: Path) -> None:
    """The runtime never needs training or evals to start; the contracts need nothing but each other."""
    allowed = {"agent/messages.py": (), "agent/errors.py": (), "agent/models/base.py": ("agent.messages",)}
    ours = {name for name in imports_at_start(ast.parse(path.read_text())) if name.split(".")[0] in PACKAGES}
    if path.parts[len(ROOT.parts)] in ("agent", "skills", "tools"):
        assert {name for name in ours if name.split(".")[0] in ("training", "evals")} == set()
    if relative(path) in allowed:
        assert ours <= set(allowed[relative(path)])


def test_imports_of_every_kind_are_seen() -> None:
    text = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import only_for_types
else:
    import otherwise
try:
    import tried.deeply
except ImportError:
    from fallback import thing
def later():
    import inside
class Kind:
    import within
    def later(self):
        import inside
"""
    assert set(imports_at_start(ast.parse(text))) == {"typing", "otherwise", "tried.deeply", "fallback", "within"}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, ROOT / "scripts" / "setup"], ids=relative)
def test_files_and_functions_stay_short(path: Path) -> None:
    """Tests may be longer than other files; their functions may not."""
    text = path.read_text()
    if path not in TESTS:
        assert len(text.splitlines()) <= LONGEST_FILE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_nine_functions_of_ten_fit_in_thirty_lines() -> None:
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[int(len(lengths) * 0.9)] <= 30


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_file_says_what_it_is_about(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("folder", code_folders(), ids=relative)
def test_a_folders_readme_names_every_file_and_only_those(folder: Path) -> None:
    """At most 12 lines; a file is named as `name.py`, a folder as `name/`."""
    text = (folder / "README.md").read_text()
    assert len(text.splitlines()) <= 12
    there = {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}
    there |= {f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = set(re.findall(r"`([\w.-]+/?)`", text))
    assert there - named == set(), "not named in the README"
    exist = {path.name for path in folder.iterdir()} | there
    assert {name for name in named if name.endswith(("/", ".py", ".md", ".toml")) and name not in exist} == set()


def test_nothing_points_at_one_machine() -> None:
    pattern = re.compile(r"/(?:root|work|tmp/w)/|index-url|extra-index")
    files = [*SOURCES, ROOT / "Makefile", ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / "scripts" / "setup"]
    assert {
        relative(path): pattern.findall(path.read_text()) for path in files if pattern.search(path.read_text())
    } == {}


def test_make_runs_the_commands_that_the_readme_names() -> None:
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    for target in ("demo", "test"):
        command = re.search(rf"(?m)^{target}:.*\n\t(.+)$", makefile)
        assert command
        assert f"make {target}" in readme
        assert command[1] in readme
