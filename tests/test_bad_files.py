"""Bad input from files, skills and settings: one sentence, an exit code, and everything is where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import config_dir
from tests.program import ABSTRACTS, annotation, calling, data_folder, put_on_record, record, refused, run, script


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: what must be the same afterwards."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def papers(workspace: Path) -> Path:
    """A workspace with a paper, an earlier result, a model for one annotation, and a run on record."""
    (workspace / "paper.txt").write_text(ABSTRACTS[0]["abstract"] + "\n")
    (workspace / "earlier.md").write_text("# Mine\n")
    put_on_record("say hello")
    script(workspace, [{"content": annotation(0)}])
    return workspace


def missing(folder: Path) -> str:
    return "papr.txt"


def without_papers(folder: Path) -> str:
    (folder / "drafts").mkdir()
    (folder / "drafts" / "photo.png").write_bytes(b"\x89PNG")
    return "drafts/"


def empty(folder: Path) -> str:
    (folder / "empty.txt").touch()
    return "empty.txt"


def empty_folder(folder: Path) -> str:
    (folder / "nothing").mkdir()
    return "nothing/"


def latin_1(folder: Path) -> str:
    (folder / "old.txt").write_bytes("Zusammenfassung: für kleine Modelle.\n".encode("latin-1"))
    return "old.txt"


def utf_16(folder: Path) -> str:
    (folder / "windows.txt").write_text("An abstract.\n", encoding="utf-16")
    return "windows.txt"


def huge(folder: Path) -> str:
    (folder / "huge.txt").write_bytes(b"all work and no play " * 2_500_000)
    return "huge.txt"


def huge_line(folder: Path) -> str:
    (folder / "huge.jsonl").write_bytes(b'{"abstract": "' + b"word " * 10_000_000 + b'"}\n')
    return "huge.jsonl"


def scan(folder: Path) -> str:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(width=595, height=842)
    writer.write(folder / "scan.pdf")
    return "scan.pdf"


def broken_pdf(folder: Path) -> str:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n" + b"\x00\xff" * 500)
    return "broken.pdf"


def broken_jsonl(folder: Path) -> str:
    (folder / "rows.jsonl").write_text(json.dumps(ABSTRACTS[1]) + '\n{"abstract": "cut\n')
    return "rows.jsonl"


def other_columns(folder: Path) -> str:
    (folder / "rows.csv").write_text("name,summary\na,b\n")
    return "rows.csv"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (missing, ["there is no file papr.txt", "Did you mean 'paper.txt'?"]),
        (without_papers, ["there is no paper in the folder drafts", ".txt, .md, .tex, .pdf, .jsonl, .csv"]),
        (empty_folder, ["there is no paper in the folder nothing"]),
        (empty, ["empty.txt is empty"]),
        (latin_1, ["old.txt is not UTF-8 text: byte 0xfc at offset 18", "iconv -f ISO-8859-1"]),
        (utf_16, ["windows.txt is UTF-16, not UTF-8", "iconv -f UTF-16"]),
        (huge, ["huge.txt has 52,500,000 bytes, and a document may have 10,000,000"]),
        (huge_line, ["line 1 of huge.jsonl is longer than 10,000,000 bytes"]),
        (scan, ["scan.pdf is a PDF without text, probably a scan", "OCR"]),
        (broken_pdf, ["broken.pdf is not a readable PDF"]),
        (broken_jsonl, ["line 2 of rows.jsonl is not JSON", "Correct or remove that line."]),
        (other_columns, ["rows.csv", "name, summary", "--column"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_cannot_be_annotated_is_told_and_nothing_is_lost(
    papers: Path, make: Callable[[Path], str], said: list[str]
) -> None:
    name = make(papers)
    before = bytes_of(papers)
    started = time.monotonic()
    done = run(f"/annotate {name} save to result.jsonl", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    refused(done, 2, *said)
    assert done.stdout == ""
    assert time.monotonic() - started < 10
    assert bytes_of(papers) == before, "nothing was changed, and nothing was left behind"
    assert record().task == "say hello", "the record is as it was"


def test_a_folder_with_some_bad_files_is_annotated_as_far_as_it_goes(papers: Path) -> None:
    for make in (empty, latin_1, scan):
        make(papers)
    (papers / "earlier.md").unlink()
    done = run("/annotate . save to result.jsonl", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["source"] for line in (papers / "result.jsonl").read_text().splitlines()] == ["paper.txt"]
    for name in ("empty.txt", "old.txt", "scan.pdf"):
        assert f"left out: {name}" in done.stderr
    assert "3 inputs were left out" in done.stdout


def test_piped_text_is_limited_and_must_be_utf_8(papers: Path) -> None:
    model = ("--model", f"scripted:{papers}/.replies.jsonl")
    long = run("/annotate -", *model, cwd=papers, stdin=b"word " * 10_000_000)
    refused(long, 2, "standard input is longer than 10,000,000 bytes")
    refused(run("/annotate -", *model, cwd=papers, stdin=b"caf\xe9"), 2, "standard input is not UTF-8 (byte 3)")


def test_a_tool_that_meets_a_bad_file_tells_the_model_and_the_run_goes_on(papers: Path) -> None:
    for make in (empty, latin_1, huge, scan):
        make(papers)
    names = ("gone.txt", "empty.txt", "old.txt", "huge.txt", "scan.pdf")
    model = script(papers, [calling("read_file", path=name) for name in names] + [{"content": "I saw."}])
    done = run("look", "--model", model, cwd=papers)
    assert (done.returncode, done.stdout) == (0, "I saw.\n"), done.stderr
    said = [message.content for message in record().messages if message.role == "tool"]
    expected = ["there is no file gone.txt", "empty.txt is empty", "not UTF-8", "52,500,000 bytes", "not UTF-8"]
    assert [text for text, part in zip(said, expected, strict=True) if part not in text] == []


@pytest.mark.llama
def test_an_abstract_longer_than_the_context_is_refused_with_both_numbers(papers: Path) -> None:
    (papers / "long.txt").write_text(" ".join(entry["abstract"] for entry in ABSTRACTS[:5]) + "\n")
    arguments = ("--model", "local", "--workspace", str(papers))
    done = run("/annotate long.txt save to result.json", *arguments, cwd=papers, APPRENTICE_MODELS__CONTEXT="512")
    refused(done, 4, "tokens and the model's context holds 512", "long.txt is too long for local")
    assert not list(papers.glob("result*"))
    entry = record()
    assert (entry.outcome, "context holds 512" in entry.reason) == ("failure", True)
    assert ABSTRACTS[4]["abstract"] in entry.messages[1].content, "not cut silently"


def test_of_several_abstracts_only_the_one_that_is_too_long_is_left_out(papers: Path) -> None:
    rows = [ABSTRACTS[0], {"abstract": "too long " * 9000}, ABSTRACTS[1]]
    (papers / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from tests.wire.model_server import Fault, Say
    from tests.wire.openai_server import OpenAIServer

    overflow = Fault(400, "This model's maximum context length is 8192 tokens. However, you requested 18210 tokens")
    with OpenAIServer() as server:
        server.script(Say(annotation(0)), overflow, Say(annotation(1)))
        model = f"openai@{server.url}/v1:m"
        done = run("/annotate rows.jsonl save to result.jsonl", "--model", model, cwd=papers)
    refused(done, 4, "1 of 3 papers were not annotated", "rows.jsonl:2", "18210", "8192", "tries only those again")
    saved = [json.loads(line)["source"] for line in (papers / "result.jsonl").read_text().splitlines()]
    assert saved == ["rows.jsonl:1", "rows.jsonl:3"]
    assert (papers / "result.jsonl.partial").exists()


def test_an_unknown_skill_is_answered_with_the_nearest(papers: Path) -> None:
    done = run("/anotate paper.txt save to result.md", "--model", "local", cwd=papers)
    refused(done, 2, "there is no skill /anotate", "Did you mean /annotate?")
    assert not (papers / "result.md").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no frontmatter at all\n", "does not begin with a line of ---"),
        ("---\nname: greet\ndescription: says hello\n", "no closing line of ---"),
        ("---\nname: [greet\n---\n", "not valid YAML"),
        ("---\nname: other\ndescription: d\n---\n", "differs from the folder's"),
        ("---\nname: greet\n---\nhello\n", "'description' must be a text"),
        ("---\nname: greet\ndescription: d\ntriggers: x\n---\n", "there is no key 'triggers'"),
        ("---\nname: greet\ndescription: caf\xe9\n---\n", "it is not UTF-8"),
    ],
)
def test_a_broken_skill_is_named_by_its_file_and_what_is_wrong(papers: Path, text: str, said: str) -> None:
    path = config_dir() / "skills" / "greet" / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    refused(run("/greet me", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers), 2, str(path), said)
    assert path.read_bytes() == text.encode("latin-1")


def test_beside_a_broken_skill_the_others_work(papers: Path) -> None:
    path = config_dir() / "skills" / "greet" / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_text("no frontmatter at all\n")
    done = run("/annotate paper.txt", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    assert done.returncode == 0, done.stderr
    assert f"! a skill is left out: {path}" in done.stderr


def test_a_users_skill_whose_code_is_broken_is_named(papers: Path) -> None:
    folder = config_dir() / "skills" / "greet"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: greet\ndescription: d\n---\nhello\n")
    (folder / "skill.py").write_text("import nothing_of_that_name\n")
    done = run("/greet me", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    refused(done, 2, str(folder / "skill.py"), "ModuleNotFoundError")


def test_a_users_tool_that_is_broken_is_named(papers: Path) -> None:
    folder = config_dir() / "tools"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("def broken(:\n")
    done = run("x", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    refused(done, 2, str(folder / "mine.py"), "SyntaxError")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('privacy = "closed"\n', ["privacy = 'closed' does not fit", "Allowed: open, local-only."]),
        ('[models]\nprotocol = "xml"\n', ["models.protocol = 'xml'", "Allowed: auto, native, json, text."]),
        ("[budget]\nsteps = 0\n", ["budget.steps = 0", "greater than or equal to 1", "Model turns in one run."]),
        ("[models]\nread_timeout = 'soon'\n", ["models.read_timeout = 'soon'", "valid number"]),
        ('[models]\ndefalt = "local"\n', ["there is no setting 'models.defalt'", "Did you mean 'models.default'?"]),
        ("[models\n", ["is not valid TOML", "line 1"]),
        ("caf\xe9", ["is not valid TOML"]),
    ],
)
def test_a_bad_setting_is_named_with_its_file_its_key_and_what_is_allowed(
    papers: Path, text: str, said: list[str]
) -> None:
    path = config_dir() / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))
    done = run("x", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    refused(done, 2, f"error: {path}", *said)
    assert path.read_bytes() == text.encode("latin-1")


def test_a_bad_setting_of_a_project_is_named_whether_it_is_trusted_or_not(papers: Path) -> None:
    path = papers / ".apprentice" / "config.toml"
    path.parent.mkdir()
    path.write_text('[models]\nprotocol = "xml"\n')
    done = run("x", "--model", f"scripted:{papers}/.replies.jsonl", cwd=papers)
    refused(done, 2, f"error: {path}: models.protocol = 'xml'", "Allowed: auto, native, json, text.")


def test_a_bad_variable_and_a_bad_flag_are_named_too(papers: Path) -> None:
    model = ("--model", f"scripted:{papers}/.replies.jsonl")
    refused(run("x", *model, cwd=papers, APPRENTICE_PRIVACY="shut"), 2, "the environment: privacy = 'shut'", "Allowed:")
    done = run("x", *model, cwd=papers, APPRENTICE_MODELS__DEFALT="local")
    refused(done, 2, "APPRENTICE_MODELS__DEFALT names no setting", "models.default")
    refused(run("x", *model, "--max-steps", "0", cwd=papers), 2, "--max-steps", "whole number from 1")


@pytest.mark.llama
def test_doctor_reports_a_bad_setting_and_goes_on(papers: Path) -> None:
    path = config_dir() / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('privacy = "closed"\n')
    done = run("doctor", "--json", cwd=papers)
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1, done.stderr
    assert f"{path}: privacy = 'closed' does not fit" in findings["config"]["found"]
    assert "Allowed: open, local-only." in findings["config"]["fix"]
    assert "1 run" in findings["trace store"]["found"]
    refused(run("doctor", "--download", cwd=papers), 2, f"{path}: privacy")


@pytest.mark.parametrize(
    ("there", "key", "value", "said"),
    [
        ("[models\n", "models.default", "local", "would not be valid TOML"),
        ('models.default = "a"\n', "models.strong", "b", "would not be valid TOML"),
        ("caf\xe9", "models.default", "local", "it is not UTF-8 text"),
        ("# mine\n", "models", "local", "models is a group of settings"),
        ("# mine\n", "models.temperature", "nan", "does not fit"),
        ("# mine\n", "models.temperature", "warm", "takes a number"),
    ],
)
def test_setting_what_cannot_be_set_keeps_the_file(papers: Path, there: str, key: str, value: str, said: str) -> None:
    path = config_dir() / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_bytes(there.encode("latin-1"))
    refused(run("config", "set", key, value, cwd=papers), 2, said)
    assert bytes_of(config_dir()) == {"config.toml": there.encode("latin-1")}


def test_a_setting_may_hold_any_letter(papers: Path) -> None:
    assert run("config", "set", "models.default", "ollama:été🗂", cwd=papers).returncode == 0
    assert "models.default = 'ollama:été🗂'" in run("config", cwd=papers).stdout


def test_a_folder_in_place_of_the_settings_file_is_told(papers: Path) -> None:
    (config_dir() / "config.toml").mkdir(parents=True)
    for command in (["x", "--model", "local"], ["config", "set", "models.default", "local"]):
        refused(run(*command, cwd=papers), 2, f"{config_dir() / 'config.toml'}")
    assert data_folder().is_dir()
