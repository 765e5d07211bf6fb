"""The report: its numbers, its three files, and several reports joined."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError, OutputError
from evals.annotate import Case, RowResult, scored
from evals.baselines import without_model
from evals.rehearsal import Answer
from evals.report import Evaluated, Suite, build, merge, read, worst, write
from evals.tables import heading, markdown, tables
from skills.annotate.framework import load
from skills.annotate.validate import check
from tests.evals.examples import ABSENT, GOLD, KEYS, a_case, write_cases

FRAMEWORK = load("eight-moves")
CASES = [a_case(number, field) for number, field in enumerate(["agents", "agents", "biomedicine"])]
SPECIALIST = {"name": "annotator", "version": "3", "adapter_sha256": "a", "base_sha256": "b"}


def row(case: Case, seconds: float = 2.0, **annotation: str) -> RowResult:
    said = GOLD | annotation
    return scored(case, said, check(said, case.abstract, FRAMEWORK), FRAMEWORK, tokens=90, seconds=seconds)


def rows(**annotation: str) -> list[RowResult]:
    return [row(case, **annotation) for case in CASES]


def suite(tmp_path: Path, kind: str = "annotate") -> Suite:
    path = write_cases(tmp_path / "salt.jsonl", CASES)
    return Suite.of(kind, path, [case.document for case in CASES])


def a_report(tmp_path: Path, **more: Any) -> Any:
    good = Evaluated(rows(), SPECIALIST, [])
    models = {"specialist:annotator@3": good, "local": Evaluated(rows(limitation=ABSENT)), **more}
    models |= {name: Evaluated(found, baseline=True) for name, found in without_model(CASES, FRAMEWORK).items()}
    return build(suite(tmp_path), models, [("specialist:annotator@3", "local"), ("local", "all absent")])


def test_a_report_says_what_was_asked_and_what_each_model_reached(tmp_path: Path) -> None:
    report = a_report(tmp_path)
    assert report["suite"] | {"sha256": ""} == {
        "kind": "annotate",
        "name": "salt",
        "path": str(tmp_path / "salt.jsonl"),
        "sha256": "",
        "rows": 3,
        "documents": [case.document for case in CASES],
    }
    entry = report["models"]["local"]
    assert entry["summary"]["f1"] == {"mean": 7 / 8, "low": 7 / 8, "high": 7 / 8}
    assert entry["summary"]["seconds_median"]["mean"] == 2.0
    assert {name: part["rows"]["mean"] for name, part in entry["fields"].items()} == {"agents": 2, "biomedicine": 1}
    assert entry["moves"]["limitation"]["f1"]["mean"] == 0.0
    assert entry["moves"]["limitation"]["absent_precision"]["mean"] == 0.0
    assert report["models"]["specialist:annotator@3"]["specialist"] == SPECIALIST


def test_a_reports_rows_hold_every_score_and_no_text_of_the_suite(tmp_path: Path) -> None:
    report = a_report(tmp_path)
    kept = {"id", "document", "field", "valid", "grounded", "supported", "f1", "rouge_l", "length", "tokens", "seconds"}
    for line in report["models"]["local"]["rows"]:
        assert kept | {"moves", "absent"} <= line.keys()
        assert line["absent"]["implication"] == [True, True]
    assert "northern plain" not in json.dumps(report)


def test_comparisons_are_of_the_first_less_the_second_with_the_test_that_fits(tmp_path: Path) -> None:
    lines = {(line["a"], line["b"], line["metric"]): line for line in a_report(tmp_path)["comparisons"]}
    better = lines["specialist:annotator@3", "local", "f1"]
    assert (better["difference"], better["test"]) == (1 / 8, "paired bootstrap")
    assert better["p"] < 0.001
    accepted = lines["local", "all absent", "accepted"]
    assert (accepted["difference"], accepted["test"], accepted["p"]) == (1.0, "McNemar", 0.25)
    assert ("local", "all absent", "seconds") not in lines, "a baseline without a model takes no time"
    assert ("specialist:annotator@3", "local", "seconds") in lines


@pytest.mark.parametrize(
    ("seen", "counts", "said"),
    [([], True, ""), (["d1"], False, "NOT UNSEEN"), (None, False, "does not say what it was made from")],
)
def test_a_report_counts_for_the_gate_only_if_the_documents_are_known_to_be_unseen(
    tmp_path: Path, seen: list[str] | None, counts: bool, said: str
) -> None:
    report = build(suite(tmp_path), {"specialist:x@1": Evaluated(rows(), SPECIALIST, seen)}, [])
    assert report["counts_for_gate"] is counts
    assert said in "\n".join(heading(report))
    assert len(heading(report)) == (1 if counts else 2)


def test_markdown_has_every_table_with_intervals(tmp_path: Path) -> None:
    report = a_report(tmp_path)
    text = markdown(report)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        table.title for table in tables(report)
    ]
    assert "| local | 100.0% (100%-100%) | 100.0% (100%-100%) |" in text
    assert "0.875 (0.875-0.875)" in text
    assert (
        "| specialist:annotator@3 - local | token F1 | +0.125 | +0.125 to +0.125 | < 0.001 | paired bootstrap |" in text
    )
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


class Page(HTMLParser):
    """Collects what a page would load, its tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {value}" for name, value in attrs if name in ("src", "href", "data", "action") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_shows_plots_and_the_worst_rows(tmp_path: Path) -> None:
    cases = [case.model_copy(update={"title": "<b>Salt & roads</b>"}) for case in CASES]
    found = [row(case, **({"limitation": ABSENT} if number == 1 else {})) for number, case in enumerate(cases)]
    write(a_report(tmp_path), tmp_path / "out", worst("local", found, cases, 2))
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert not page.loads
    assert "<script" not in text
    assert not re.search(r"url\((?!#)", text)
    assert page.tags.count("svg") == 4
    ids = re.findall(r'\bid="(?:clip|[pm])?([0-9a-f]{10,})"', text)
    assert len(ids) == len(set(ids)), "the plots do not borrow each other's parts"
    assert page.tags.count("details") == 2
    assert "<b>Salt & roads</b>" in page.text
    assert text.index("0.88") < text.index("1.00</b>"), "the worst row comes first"
    assert GOLD["limitation"] in page.text


def test_the_three_files_say_the_same_and_only_the_page_holds_texts(tmp_path: Path) -> None:
    report = a_report(tmp_path)
    write(report, tmp_path / "out", worst("local", rows(), CASES))
    assert read(tmp_path / "out") == read(tmp_path / "out" / "report.json") == json.loads(json.dumps(report))
    assert (tmp_path / "out" / "report.md").read_text() == markdown(report)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]
    assert "northern plain" not in (tmp_path / "out" / "report.md").read_text()


def test_files_are_named_without_their_folders_where_that_tells_them_apart(tmp_path: Path) -> None:
    names = ["gguf:/a/base.gguf+/b/one.gguf", "gguf:/a/base.gguf+/b/two.gguf", "gguf:/c/two.gguf", "gguf:/d/two.gguf"]
    server = "openai@http://127.0.0.1:8000/v1:some/model"
    report = a_report(tmp_path, **{name: Evaluated(rows()) for name in (*names, server)})
    write(report, tmp_path / "out", worst(names[0], rows(), CASES))
    assert names[0] in read(tmp_path / "out")["models"]
    told = (tmp_path / "out" / "report.md").read_text()
    assert "| gguf:base.gguf+one.gguf |" in told
    assert f"gguf:base.gguf+one.gguf is {names[0]}." in told
    assert all(f"| {name} |" in told for name in (*names[2:], server))
    assert "The 3 rows of gguf:base.gguf+one.gguf" in (tmp_path / "out" / "report.html").read_text()


def test_a_report_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "report.json").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"report\.json cannot be written"):
        write(a_report(tmp_path), out)
    assert [path.name for path in out.iterdir()] == ["report.json"]


def test_several_reports_are_joined_and_their_models_compared_pair_by_pair(tmp_path: Path) -> None:
    one = build(suite(tmp_path), {"local": Evaluated(rows()), "all absent": Evaluated(rows(), baseline=True)}, [])
    two = build(suite(tmp_path), {"local": Evaluated(rows(limitation=ABSENT)), "ollama:m": Evaluated(rows())}, [])
    made = merge({"one": one, "two": two | {"models": two["models"] | {"all absent": one["models"]["all absent"]}}})
    assert list(made["models"]) == ["local", "all absent", "local (two)", "ollama:m"]
    found = {(line["a"], line["b"]): line["difference"] for line in made["comparisons"] if line["metric"] == "f1"}
    assert found == {
        ("local", "local (two)"): 1 / 8,
        ("local", "ollama:m"): 0,
        ("local (two)", "ollama:m"): -1 / 8,
    }


def test_reports_of_other_rows_are_not_compared(tmp_path: Path) -> None:
    one = build(suite(tmp_path), {"local": Evaluated(rows())}, [])
    two = json.loads(json.dumps(one))
    two["suite"]["rows"] = 2
    with pytest.raises(InputError, match="two is not about the same rows"):
        merge({"one": one, "two": two})


@pytest.mark.parametrize("text", ["{", "[]", '{"suite": {}}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"report\.json"):
        read(tmp_path)


def test_a_rehearsal_report_has_the_share_passed_by_kind(tmp_path: Path) -> None:
    answers = [
        Answer(id=f"p{number}", document=f"d{number}", field=kind, passed=passed, reply="x", seconds=1.0)
        for number, (kind, passed) in enumerate([("fact", True), ("fact", False), ("format", True), ("format", True)])
    ]
    forgot = [one.model_copy(update={"passed": False}) for one in answers]
    report = build(
        suite(tmp_path, "rehearsal"), {"local": Evaluated(answers), "tuned": Evaluated(forgot)}, [("tuned", "local")]
    )
    assert report["models"]["local"]["summary"]["passed"]["mean"] == 0.75
    assert report["models"]["local"]["fields"]["fact"]["passed"]["mean"] == 0.5
    (line,) = [line for line in report["comparisons"] if line["metric"] == "passed"]
    assert (line["difference"], line["test"], line["p"]) == (-0.75, "McNemar", 0.25)
    write(report, tmp_path / "out")
    assert Page((tmp_path / "out" / "report.html").read_text()).tags.count("svg") == 1
    assert merge({"one": report})["models"]["tuned"]["summary"]["passed"]["mean"] == 0.0


def test_every_move_has_its_table_for_each_model_that_is_no_baseline(tmp_path: Path) -> None:
    found = {table.title: table for table in tables(a_report(tmp_path))}
    assert [line[0] for line in found["local, move by move"].rows] == list(KEYS)
    assert "all absent, move by move" not in found
    assert found["local, move by move"].rows[6][1:5] == ["1.000 (1.000-1.000)", "1.000 (1.000-1.000)", "-", "-"]


def test_a_long_address_spoils_no_plot(tmp_path: Path) -> None:
    name = (
        "gguf:/a/long/way/down/to/a/base-$model$-of-some-size-and-a-name-without-end.gguf+/another/way/to/adapter.gguf"
    )
    write(build(suite(tmp_path), {name: Evaluated(rows()), "local": Evaluated(rows())}, []), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    short = "gguf:base-$model$-of-some-size-and-a-name-without-end.gguf+adapter.gguf"
    assert f"● {short}</span>" in page
    assert "■ local</span>" in page
    assert f"…{short[-29:]}<" in page
