"""Papers from files of every kind, and one clear sentence for each file that cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.errors import InputError
from skills.annotate import papers
from skills.annotate.papers import OUR_MARK, Paper, from_text, read_file, read_folder

ABSTRACT = "We measure how trees cool streets. Watered trees cool twice as much."
OWN = Path(__file__).parents[2] / "data/abstracts.jsonl"


def pdf(path: Path, pages: list[list[str]], title: str = "") -> Path:
    """Write a small PDF: each page is a list of lines, drawn in this order in Helvetica."""
    contents = []
    for lines in pages:
        escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
        shown = b" T* ".join(b"(" + line.encode("cp1252") + b") Tj" for line in escaped)
        contents.append(b"BT /F1 10 Tf 12 TL 50 780 Td " + shown + b" ET")
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, content in enumerate(contents):
        resources = f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * number} 0 R"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] {resources} >>".encode())
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects.append(f"<< /Title ({title}) >>".encode())
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer << /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, size - 1, len(data))
    path.write_bytes(data + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer)
    return path


def one(path: Path) -> Paper:
    (paper,) = read_file(path, name=path.name).papers
    return paper


def test_a_text_file_with_mark_windows_line_ends_and_loose_accents_is_read_as_nfc(workspace: Path) -> None:
    path = workspace / "paper.txt"
    path.write_bytes("\ufeffCafe\u0301s and Trees\r\n\r\nWe measure how cafe\u0301s\r\ncool streets.\r\n".encode())
    assert one(path) == Paper("paper.txt", "Caf\xe9s and Trees", "We measure how caf\xe9s cool streets.")


def test_each_kind_of_document_gives_title_and_abstract(workspace: Path) -> None:
    body = "The introduction is long. " * 200
    (workspace / "a.md").write_text(f"# Trees\n\n## Abstract\n\n{ABSTRACT}\n\n## Introduction\n\n{body}")
    (workspace / "b.tex").write_text(
        f"\\title{{Trees}}\\begin{{abstract}}{ABSTRACT}\\end{{abstract}}\\section{{A}} {body}"
    )
    (workspace / "c.txt").write_text(f"Trees\n\nABSTRACT\n{ABSTRACT}\n\nKeywords: trees\n\n{body}")
    for name in ("a.md", "b.tex", "c.txt"):
        assert one(workspace / name) == Paper(name, "Trees", ABSTRACT)


def test_a_two_column_pdf_is_read_column_by_column_with_its_words_joined(workspace: Path) -> None:
    left = [
        "Seven Years of Trees",
        "Jane Doe",
        "Abstract",
        "We measure how street trees in",
        "three cities cool the pave-",
    ]
    right = ["ment (by 3.4 degrees).", "1 Introduction", "The pavement is hot."]
    path = pdf(workspace / "paper.pdf", [left + right, ["More."]])
    expected = "We measure how street trees in three cities cool the pavement (by 3.4 degrees)."
    assert one(path) == Paper("paper.pdf", "Seven Years of Trees", expected)


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ("Trees and Streets", "Trees and Streets"),
        ("Microsoft Word - x.docx", "First Line Here"),
        ("main.tex", "First Line Here"),
    ],
)
def test_a_pdf_title_comes_from_its_metadata_unless_a_program_filled_it_in(
    workspace: Path, metadata: str, title: str
) -> None:
    path = pdf(workspace / "x.pdf", [["First Line Here", "Abstract", ABSTRACT, "1 Introduction"]], metadata)
    assert one(path).title == title


def test_a_pdf_is_known_by_its_content_whatever_it_is_called(workspace: Path) -> None:
    path = pdf(workspace / "download", [["First Line Here", "Abstract", ABSTRACT]])
    assert one(path).abstract == ABSTRACT


def encrypted(path: Path) -> None:
    import pypdf

    writer = pypdf.PdfWriter(clone_from=pdf(path.with_suffix(".open"), [["Abstract", ABSTRACT]]))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(path)


def damaged(path: Path) -> None:
    data = pdf(path, [["Abstract", ABSTRACT]]).read_bytes()
    path.write_bytes(data[:40])


BAD = {
    "empty.txt": (lambda path: path.write_bytes(b""), "empty.txt is empty"),
    "blank.md": (lambda path: path.write_bytes(b" \n\n"), "blank.md is empty"),
    "latin.txt": (
        lambda path: path.write_bytes("We caf\xe9".encode("latin-1")),
        "not UTF-8 text: byte 0xe9 at offset 6",
    ),
    "wide.txt": (lambda path: path.write_text(ABSTRACT, encoding="utf-16"), "is UTF-16, not UTF-8"),
    "photo.txt": (lambda path: path.write_bytes(b"\x89PNG\0\0\0"), "is a binary file"),
    "huge.txt": (
        lambda path: path.write_bytes(b"word " * 10_000_001),
        "50,000,005 bytes, and a document may have 10,000,000",
    ),
    "scan.pdf": (lambda path: pdf(path, [[""], [" 1 "]]), "a PDF without text, probably a scan"),
    "locked.pdf": (encrypted, "is encrypted"),
    "torn.pdf": (damaged, "is not a readable PDF"),
    "fake.pdf": (lambda path: path.write_text("text"), "is not a PDF, whatever its name says"),
    "rows.json": (lambda path: path.write_text("[]"), "is JSON, and I read JSONL"),
    "pipe.txt": (os.mkfifo, "is not a regular file"),
    "old.md": (lambda path: path.write_text(f"# T\n\n{OUR_MARK}\n"), "is an annotation, not a paper"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_gives_one_sentence_that_names_it(workspace: Path, name: str) -> None:
    make, sentence = BAD[name]
    make(workspace / name)
    with pytest.raises(InputError) as caught:
        read_file(workspace / name, name=name)
    assert sentence in caught.value.message
    assert name.partition(".")[0] in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_no_such_file_and_no_permission_are_said_so(workspace: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*gone\.txt"):
        read_file(workspace / "gone.txt")
    with pytest.raises(InputError, match=r"/proc/self/mem is empty|/proc/self/mem cannot be read"):
        read_file(Path("/proc/self/mem"))


def test_the_hint_for_another_encoding_is_a_command(workspace: Path) -> None:
    (workspace / "x.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError) as caught:
        read_file(workspace / "x.txt", name="x.txt")
    assert "iconv -f ISO-8859-1 -t UTF-8 x.txt" in caught.value.hint


def test_jsonl_rows_keep_their_order_ids_titles_and_duplicates(workspace: Path) -> None:
    path = workspace / "p.jsonl"
    rows = [{"id": 7, "title": "A  B", "abstract": "One\n\ntwo."}, {"abstract": "Three."}, {"abstract": "Three."}]
    path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows) + "\n")
    assert read_file(path, name="p.jsonl").papers == [
        Paper("p.jsonl:1", "A B", "One two.", "7"),
        Paper("p.jsonl:3", "", "Three."),
        Paper("p.jsonl:5", "", "Three."),
    ]


def test_the_abstracts_of_these_tests_are_read_whole() -> None:
    found = read_file(OWN).papers
    assert len(found) == 24
    assert len({paper.id for paper in found}) == 24
    assert min(len(paper.abstract.split()) for paper in found) < 45
    assert max(len(paper.abstract.split()) for paper in found) > 390


def test_a_column_may_be_named(workspace: Path) -> None:
    (workspace / "p.jsonl").write_text('{"text": "One."}\n')
    assert read_file(workspace / "p.jsonl", "text").papers[0].abstract == "One."
    (workspace / "p.csv").write_text("n,Text\n1,One.\n")
    assert read_file(workspace / "p.csv", "text").papers[0].abstract == "One."


def test_rows_without_an_abstract_are_skipped_and_named(workspace: Path) -> None:
    (workspace / "p.jsonl").write_text('{"abstract": "One."}\n{"abstract": " "}\n{"abstract": null}\n')
    found = read_file(workspace / "p.jsonl", name="p.jsonl")
    assert len(found.papers) == 1
    assert found.skipped == ["p.jsonl:2 has no abstract", "p.jsonl:3 has no abstract"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"abstract": "One."}\n{"abstract": \n', r"line 2 of p\.jsonl is not JSON"),
        (b'{"abstract": "One."}\n[1]\n', r"line 2 of p\.jsonl is not a JSON object"),
        (b'{"text": "One.", "n": 1}\n', r"line 1 of p\.jsonl has no 'abstract'; it has text, n"),
        (b"{}\n", "it is empty"),
        (b'{"abstract": "caf\xe9"}\n', r"line 1 of p\.jsonl is not UTF-8 text: byte 0xe9 at offset 17"),
        (b'{"abstract": ""}\n', r"p\.jsonl holds no abstract: p\.jsonl:1 has no abstract"),
        (b"\n\n", r"p\.jsonl holds no abstract"),
        (b"[" * 100_000, r"line 1 of p\.jsonl is not JSON"),
        (b"x" * 10_000_001, r"line 1 of p\.jsonl is longer than 10,000,000 bytes"),
    ],
)
def test_a_broken_jsonl_line_is_named_with_its_number(workspace: Path, content: bytes, sentence: str) -> None:
    (workspace / "p.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_file(workspace / "p.jsonl", name="p.jsonl")


def test_csv_finds_the_column_in_any_case_with_big_and_many_line_fields(workspace: Path) -> None:
    big = "word " * 60_000
    (workspace / "p.csv").write_text(
        f'ID,Title, ABSTRACT\nx1,T,"One\ntwo."\nx2,,"{big}"\n\nx3,U,\n', encoding="utf-8-sig"
    )
    found = read_file(workspace / "p.csv", name="p.csv")
    assert found.papers[0] == Paper("p.csv:2", "T", "One two.", "x1")
    assert found.papers[1].source == "p.csv:4"
    assert len(found.papers[1].abstract) == len(big) - 1
    assert found.skipped == ["p.csv:6 has no abstract"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_may_be_separated_by_semicolons_or_tabs(workspace: Path, mark: str) -> None:
    (workspace / "p.csv").write_text(f"title{mark}abstract\nT{mark}One, two.\n")
    assert read_file(workspace / "p.csv").papers[0].abstract == "One, two."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"title,summary\nT,One.\n", r"p\.csv has no column 'abstract'; it has title, summary"),
        (b"abstract\n" + b"ok\n" * 5000 + b"caf\xe9\n", r"p\.csv is not UTF-8 text: byte 0xe9 at offset 15012"),
        (b"abstract\n" + b"x" * 10_000_001, r"p\.csv is not readable CSV: field larger than field limit"),
        (b"PK\0\0abstract", r"p\.csv is a binary file"),
        (b"abstract\n", r"p\.csv holds no abstract"),
    ],
)
def test_a_broken_csv_is_told_in_one_sentence(workspace: Path, content: bytes, sentence: str) -> None:
    (workspace / "p.csv").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_file(workspace / "p.csv", name="p.csv")


def test_a_folder_is_read_sorted_with_its_folders_and_what_is_unreadable_is_named(workspace: Path) -> None:
    for name in ("b.txt", "a/c.md", ".hidden/x.txt", "node_modules/y.txt", "image.png", "out.md"):
        (workspace / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "p" / name).write_text(f"About {name}. {ABSTRACT}")
    (workspace / "p/empty.txt").touch()
    (workspace / "p/rows.jsonl").write_text('{"abstract": "One."}\n')
    found = read_folder(workspace / "p", name="p", leave_out=[workspace / "p/out.md"])
    assert [paper.source for paper in found.papers] == ["p/a/c.md", "p/b.txt", "p/rows.jsonl:1"]
    assert found.skipped == ["p/empty.txt is empty"]


def test_a_note_in_a_folder_is_no_paper_unless_it_is_named(workspace: Path) -> None:
    (workspace / "a.txt").write_text(ABSTRACT)
    (workspace / "todo.md").write_text("buy tea, call back")
    reading = read_folder(workspace, name=".")
    assert [paper.source for paper in reading.papers] == ["a.txt"]
    assert reading.skipped == ["todo.md is too short for a paper"]
    assert read_file(workspace / "todo.md").papers[0].abstract == "buy tea, call back"


def test_a_folder_without_papers_is_an_error(workspace: Path) -> None:
    with pytest.raises(InputError, match=r"there is no paper in the folder nothing$") as caught:
        read_folder(workspace, name="nothing")
    assert ".tex" in caught.value.hint
    (workspace / "x.txt").touch()
    with pytest.raises(InputError, match=r": 1 file, none with an abstract \(p/x\.txt is empty\)"):
        read_folder(workspace, name="p")


def test_a_limit_on_files_says_what_it_left_out(workspace: Path) -> None:
    for number in range(4):
        (workspace / f"{number}.txt").write_text(ABSTRACT)
    found = read_folder(workspace, name="p", most=3)
    assert (len(found.papers), found.skipped) == (3, ["1 more files in p were not read"])


def test_piped_text_may_be_an_abstract_or_a_document_of_any_kind() -> None:
    assert from_text(f"\ufeff{ABSTRACT}\r\n", "standard input") == Paper("standard input", "", ABSTRACT)
    assert from_text(f"# Trees\n\n{ABSTRACT}", "-").title == "Trees"
    assert from_text(f"\\begin{{abstract}}{ABSTRACT}\\end{{abstract}}", "-").abstract == ABSTRACT
    assert from_text("We save to disk. /review 2402.11651 save to x.md", "-").abstract.endswith("save to x.md")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" \n", "is empty"),
        ("a\0b", "is not UTF-8"),
        ("a\udce9", "is not UTF-8"),
        ("a" * 10_000_001, "more than 10,000,000"),
    ],
)
def test_piped_text_that_cannot_be_used_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_text(text, "standard input")


def test_every_suffix_that_is_advertised_is_read(workspace: Path) -> None:
    makers = {".jsonl": '{"abstract": "One."}', ".csv": "abstract\nOne.\n"}
    for suffix in papers.PAPER_SUFFIXES:
        path = workspace / f"x{suffix}"
        if suffix == ".pdf":
            pdf(path, [["Abstract", ABSTRACT]])
        else:
            path.write_text(makers.get(suffix, ABSTRACT))
    assert len(read_folder(workspace).papers) == len(papers.PAPER_SUFFIXES)


def test_a_folder_does_not_read_what_its_links_lead_to_outside(workspace: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("My diary says what nobody may read. It is as short as an abstract.")
    (workspace / "a.txt").write_text(ABSTRACT)
    (workspace / "b.txt").symlink_to(secret)
    (workspace / "c.txt").symlink_to(workspace / "a.txt")
    assert [paper.source for paper in read_folder(workspace, name=".").papers] == ["a.txt", "c.txt"]
