"""The README, AGENTS.md and docs/ are true: every command in them runs, every example file is used, every name exists.

How a page is written, so that it can be run from top to bottom, in a folder and a home of its own:

- ```sh blocks hold commands, one a line. ```console blocks hold `$ command` lines and what they print, standard error
  included: each line must be printed, in this order; `…` stands for any text, and a line `...` for any lines.
- Any other block is a file. The text before it ends with the file's path in backticks and a colon. The configuration
  folder is `~/.config/apprentice`, everything else the workspace. A file is there before its section's first command.
- A command that cannot run here stands in ELSEWHERE, with the file that runs it. Any other must end with exit code 0.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agent import cli, config, registry
from scripts import picture
from skills import registry as skills_registry
from tests.wire.anthropic_server import AnthropicServer
from tests.wire.model_server import Say
from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import OpenAIServer
from tools import registry as tools_registry

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "make test": ".ci/run",
    "make check": ".ci/run",
    "scripts/setup dev": ".ci/run",
}
"""Commands that cannot run inside a test, and the file that runs them."""
RECIPES = {"make demo": picture.demo()}
"""Commands of which only the part after set-up is run here: the Makefile's own line. tests/test_setup.py has set-up."""
TOLD = ("training-log.md",)
"""Pages that tell what was done and have no command."""
TYPED = {"apprentice config trust": "y\n"}
"""Commands that ask a person, and what the person answers; these run at a terminal."""
SERVER = "http://127.0.0.1:8080"
"""The address of a server in the docs; the test's own takes its place."""
KEYS = {
    "OPENAI_API_KEY": "for-openai-only-1",
    "APPRENTICE_SERVER_KEY": "for-my-server-2",
    "ANTHROPIC_API_KEY": "for-anthropic-3",
}
ANNOTATION = {
    "claim": "Apprentice is an open-source agent runtime in which every run is recorded as a trajectory of messages.",
    "evidence": "Not stated.",
    "method": "Each message is committed to a local database before its line is shown and before its tool runs.",
    "scope": "The embedded base model has 135M parameters and runs on an ordinary processor without a network.",
    "limitation": "The grammar guards form and numbers, not meaning, so an untrained base writes weak annotations.",
    "comparison": "Unlike agents that depend on one remote model, it sends no text off the machine without consent.",
    "implication": "The design suggests that routine work can pay for its own automation.",
    "novelty": "A specialist is promoted only if it beats the incumbent on cases that it never saw.",
}
"""What the Ollama server answers: an annotation of demo/abstract.md that every validator passes."""
BLOCK = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^\1```$")


@dataclass(frozen=True)
class Command:
    """A command of a page, and the lines that the page says it prints."""

    text: str
    printed: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """An example file of a page."""

    path: str
    text: str


def parts(page: Path) -> list[Command | File]:
    """The commands and files of a page in order; a file comes before the commands of its own section (`##`)."""
    found: list[Command | File] = []
    for section in re.split(r"(?m)^(?=## )", page.read_text()):
        inside = [part for match in BLOCK.finditer(section) for part in _block(page, section, match)]
        found += sorted(inside, key=lambda part: isinstance(part, Command))  # stable: otherwise as written
    return found


def _block(page: Path, section: str, match: re.Match[str]) -> Iterator[Command | File]:
    indent, language, text = match[1], match[2], match[3]
    lines = [line.removeprefix(indent) for line in text.splitlines()]
    if language == "sh":
        yield from (Command(line) for line in lines if line.strip())
    elif language == "console":
        starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
        assert starts[:1] == [0], f"{page.name}: a console block begins with a command"
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            yield Command(lines[start][2:], tuple(lines[start + 1 : end]))
    else:
        names = re.findall(r"`([^`\n]+)`[^`\n]*:$", section[: match.start()].rstrip())
        assert names, f"{page.name}: no path stands before this block, so nothing uses it:\n{text}"
        yield File(names[-1], "\n".join(lines) + "\n")


def missing(expected: tuple[str, ...], printed: str) -> str:
    """The first line that should have been printed and was not, or not in this place; empty if all were."""
    rest, free = printed.splitlines(), True
    for line in expected:
        if line == "...":
            free = True
            continue
        pattern = re.compile(".*".join(re.escape(piece.strip()) for piece in line.split("…")))
        matching = [number for number, there in enumerate(rest) if pattern.fullmatch(there.strip())]
        if not matching or (matching[0] != 0 and not free):
            return line
        rest, free = rest[matching[0] + 1 :], False
    return ""


class Ollama(OllamaServer):
    """Says its version and its models too, which `apprentice doctor` asks for."""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server, said = self, {"version": "0.34.1", "models": [{"name": "qwen3:8b"}]}

        class Handler(super()._handler()):  # type: ignore[misc]
            def do_GET(self) -> None:
                server._send(self, 200, "application/json", json.dumps(said).encode())

        return Handler


@dataclass
class Place:
    """A workspace and a home for one page, and the servers that its models are on."""

    folder: Path
    home: Path
    ollama: Ollama
    openai: OpenAIServer
    server: OpenAIServer
    anthropic: AnthropicServer
    ran: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("APPRENTICE_", "PYTEST_", "COV_", "COVERAGE"))
        }
        return {
            **kept,
            **KEYS,
            "HOME": str(self.home),
            "PATH": f"{self.home / 'bin'}:{kept.get('PATH', '')}",
            "APPRENTICE_CONFIG_DIR": str(self.home / ".config" / "apprentice"),
            "APPRENTICE_DATA_DIR": str(self.home / ".local" / "share" / "apprentice"),
            "APPRENTICE_CACHE_DIR": str(self.home / ".cache" / "apprentice"),
            "APPRENTICE_MODELS__OLLAMA_URL": self.ollama.url,
            "APPRENTICE_MODELS__OPENAI_URL": f"{self.openai.url}/v1",
            "APPRENTICE_MODELS__ANTHROPIC_URL": self.anthropic.url,
        }

    def write(self, file: File) -> None:
        own = "~/.config/apprentice/"
        inside = file.path.startswith(own)
        path = (self.home / ".config" / "apprentice" if inside else self.folder) / file.path.removeprefix(own)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)

    def run(self, command: Command) -> tuple[int, str]:
        """The exit code, and what was printed."""
        self.ran.append(command.text)
        shell = ["bash", "-o", "pipefail", "-c", RECIPES.get(command.text, command.text)]
        shell[-1] = shell[-1].replace(SERVER, self.server.url)
        if command.text in TYPED:
            answer = TYPED[command.text]
            return picture.in_terminal(shell, folder=self.folder, environment=self.environment, answer=answer)
        done = subprocess.run(
            shell,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder as after `make demo` in a fresh clone: .venv, agent.py and demo/ are there."""
    folder, home = tmp_path / "clone", tmp_path / "home"
    folder.mkdir()
    (home / "bin").mkdir(parents=True)
    for name in ("agent.py", "demo", "docs", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "demo").unlink()
    (folder / "demo").mkdir()
    (folder / "demo" / "abstract.md").write_text((ROOT / "demo" / "abstract.md").read_text())
    (folder / ".venv").symlink_to(sys.prefix)
    python = shlex.quote(sys.executable)
    for name, line in {"python": '"$@"', "apprentice": f'{shlex.quote(str(ROOT / "agent.py"))} "$@"'}.items():
        (home / "bin" / name).write_text(f"#!/bin/sh\nexec {python} {line}\n")
        (home / "bin" / name).chmod(0o755)
    with Ollama() as ollama, OpenAIServer() as openai, OpenAIServer() as server, AnthropicServer() as anthropic:
        ollama.script(*[Say(json.dumps(ANNOTATION))] * 40)
        yield Place(folder, home, ollama, openai, server, anthropic)


def carry_out(page: Path, place: Place) -> None:
    """Make the page's files and run its commands."""
    for part in parts(page):
        if isinstance(part, File):
            place.write(part)
        elif part.text not in ELSEWHERE:
            code, printed = place.run(part)
            assert code == 0, f"{page.name}: {part.text}\n{printed}"
            assert not (line := missing(part.printed, printed)), f"{page.name}: {part.text}\n{line!r} in\n{printed}"


@pytest.mark.llama
def test_every_command_of_the_readme_works_in_order(place: Place) -> None:
    carry_out(ROOT / "README.md", place)
    assert "make demo" in place.ran
    rows = [json.loads(line) for line in (place.folder / "all.jsonl").read_text().splitlines()]
    assert [list(row["annotation"]) for row in rows] == [list(ANNOTATION)]
    assert "# Apprentice" in (place.folder / "output.md").read_text()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_command_of_the_docs_works_in_order(page: Path, place: Place) -> None:
    carry_out(page, place)
    assert place.ran or page.name in TOLD


def test_every_command_for_developers_works(place: Place) -> None:
    place.folder = ROOT
    carry_out(ROOT / "AGENTS.md", place)
    assert place.ran


def test_each_server_gets_its_own_key_as_the_docs_say(place: Place) -> None:
    carry_out(ROOT / "docs" / "models.md", place)
    sent = [
        [json.dumps(request.headers) for request in server.requests]
        for server in (place.openai, place.server, place.anthropic, place.ollama)
    ]
    assert all(sent)
    for own, requests in zip([*KEYS.values(), "none"], sent, strict=True):
        for request in requests:
            assert [key for key in KEYS.values() if key in request] == [own] * (own != "none")


def test_commands_run_elsewhere_are_run_there_and_shown_here() -> None:
    shown = {part.text for page in PAGES for part in parts(page) if isinstance(part, Command)}
    assert set(ELSEWHERE) | set(RECIPES) | set(TYPED) <= shown
    for command, file in ELSEWHERE.items():
        assert command in (ROOT / file).read_text()


def test_help_and_readme_name_the_same_commands() -> None:
    listed = re.findall(r"(?m)(?:^| )  ?([a-z]+) {4,}\S", cli.EXAMPLES.split("own --help):")[1])
    table = (ROOT / "README.md").read_text().split("## Commands")[1]
    assert sorted(listed) == sorted(cli.COMMANDS)
    assert sorted(re.findall(r"(?m)^\| `apprentice ([a-z]+)`", table)) == sorted(cli.COMMANDS)


def test_every_option_in_the_docs_exists() -> None:
    help_texts = cli.task_parser().format_help()
    for name in cli.COMMANDS:
        parser = cli.command_parser(name)
        help_texts += parser.format_help()
        for action in parser._actions:
            if isinstance(action.choices, dict):
                help_texts += "".join(child.format_help() for child in action.choices.values())
    exist = set(re.findall(r"--[a-z][a-z-]+", help_texts))
    for page in PAGES:
        inline = " ".join(re.findall(r"`[^`\n]*apprentice[^`\n]*`|`--[^`\n]+`", page.read_text()))
        assert set(re.findall(r"(?<!\S|`)`?(--[a-z][a-z-]+)", inline)) <= exist | {"--cov"}, page.name


def test_every_setting_in_the_docs_exists_with_its_default() -> None:
    rows = {key: default for key, default, _ in config.describe()}
    sections = {key.partition(".")[0] for key in rows if "." in key}
    for page in PAGES:
        text = page.read_text()
        named = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", text)
        assert [key for key in named if key not in rows and not (ROOT / key).exists()] == [], page.name
        for key, default in re.findall(r"(?m)^\| `([a-z_.]+)` \| (\d+) \|", text):
            assert float(rows[key]) == float(default)


def test_the_tables_of_addresses_tools_and_skills_are_complete() -> None:
    models, tools, skills = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("models", "tools", "skills"))
    assert re.findall(r"(?m)^\| `([^`]+)` \|", models.split("## ")[0]) == list(registry.ADDRESSES)
    found = {tool.name: tool.effect for tool in tools_registry.load([]).values()}
    assert dict(re.findall(r"(?m)^\| `(\w+)` \| (read|write|shell|net) \|", tools)) == found
    known, _ = skills_registry.load(Path("/nowhere"), None)
    assert set(re.findall(r"(?m)^\| `/([a-z-]+)` \|", skills.split("## ")[0])) == set(known)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if not target.startswith("https://"):
            there = page.parent / path if path else page
            assert there.exists(), target
            titles = re.findall(r"(?m)^#+ (.+)$", there.read_text()) if anchor else []
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert not anchor or anchor in anchors, target


def test_the_guide_for_developers_is_short_and_its_paths_exist() -> None:
    text = (ROOT / "AGENTS.md").read_text()
    assert len(text.splitlines()) < 120
    paths = set(re.findall(r"`((?:[\w.]+/)+[\w.]*|\w+\.(?:py|md|toml))`", text))
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert len(paths) > 10


def shown_in(drawing: Path) -> str:
    """The words of a picture, in order."""
    texts = [node for node in ElementTree.parse(drawing).iter() if node.tag.endswith("}text")]
    return " ".join(" ".join("".join(node.itertext()).replace("\xa0", " ") for node in texts).split())


def test_the_picture_shows_the_demo() -> None:
    shown = shown_in(ROOT / "docs" / "terminal.svg")
    assert f"$ {picture.demo()}" in shown
    for word in ("skill annotate", "Claim.", "Evidence.", "Novelty.", "SmolLM2-135M-Instruct"):
        assert word in shown
    assert str(Path.home()) not in shown
    assert not re.search(r"(?:url\(|href=|src=).?http", (ROOT / "docs" / "terminal.svg").read_text())


def test_the_picture_is_drawn_from_what_a_command_prints(tmp_path: Path) -> None:
    out = tmp_path / "out.svg"
    picture.main([str(out), "cd " + shlex.quote(str(ROOT)) + " && .venv/bin/python -m agent.terminal"])
    drawn = out.read_text()
    assert "count_lines" not in drawn
    assert "I read the file first." in shown_in(out)
    assert "font-style: italic" in drawn  # the thought's colours came through: it was a terminal
    assert list(tmp_path.iterdir()) == [out]


def test_a_terminal_that_never_ends_is_ended() -> None:
    with pytest.raises(TimeoutError, match="sleep"):
        picture.in_terminal(["sleep", "60"], seconds=0.5)


@pytest.mark.parametrize(
    ("expected", "printed", "line"),
    [
        (("a", "b"), "a\nb\nc", ""),
        (("b",), "a\nb", ""),
        (("a", "c"), "a\nb\nc", "c"),
        (("a", "...", "c"), "a\nb\nc", ""),
        (("b", "...", "a"), "a\nb", "a"),
        (("run …, … s",), "run 12, 0.3 s", ""),
        (("run …!",), "run 12", "run …!"),
    ],
)
def test_what_is_not_printed_is_noticed(expected: tuple[str, ...], printed: str, line: str) -> None:
    assert missing(expected, printed) == line


def test_a_block_that_nothing_uses_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nSome words.\n\n```toml\na = 1\n```\n")
    with pytest.raises(AssertionError, match="nothing uses it"):
        parts(page)
    page.write_text("A file `a.toml`:\n\n```toml\na = 1\n```\n\n   ```console\n   $ cat a.toml\n   a = 1\n   ```\n")
    assert parts(page) == [File("a.toml", "a = 1\n"), Command("cat a.toml", ("a = 1",))]
