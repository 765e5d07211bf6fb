"""BFCL's case files: how they are read, and what its rules accept. The cases here are our own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError
from agent.messages import Json, ToolCall
from agent.settings import Settings
from evals import bfcl, measured
from evals.bfcl import BFCL, Case, problem, read, valid
from tests.evals.test_commands import evals

FUNCTION = {
    "name": "ferry.book",
    "description": "Book a ferry.",
    "parameters": {
        "type": "dict",
        "properties": {
            "harbour": {"type": "string", "description": "where from"},
            "seats": {"type": "integer", "description": "how many"},
            "price": {"type": "float", "description": "at most", "optional": True},
            "days": {"type": "array", "items": {"type": "string"}},
            "point": {"type": "tuple", "items": {"type": "float"}},
            "who": {"type": "dict", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
            "pets": {"type": "array", "items": {"type": "dict"}},
            "open": {"type": "boolean"},
        },
        "required": ["harbour", "seats"],
    },
}
ACCEPTED: Json = {
    "harbour": ["Bodø Harbour", "Bodø"],
    "seats": [2],
    "price": ["", 30.0],
    "days": ["", ["Mon.", "Tue."]],
    "point": ["", [1.5, 2.0]],
    "who": ["", {"name": ["Ola Li", "Ola"], "age": ["", 40]}],
    "pets": ["", [{"kind": ["dog"]}, {"kind": ["cat"]}]],
    "open": ["", True],
}


def write(folder: Path, category: str, count: int = 2, accepted: list[Json] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"BFCL_v4_{category}.json"
    question = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Book a {category} ferry."}]]
    entries = [{"id": f"{category}_{n}", "question": question, "function": [FUNCTION]} for n in range(count)]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if accepted is not None:
        (folder / "possible_answer").mkdir(exist_ok=True)
        answers = [{"id": entry["id"], "ground_truth": accepted} for entry in entries]
        (folder / "possible_answer" / path.name).write_text("".join(json.dumps(one) + "\n" for one in answers))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "data"
    write(here, "simple_python", accepted=[{"ferry.book": ACCEPTED}])
    write(here, "parallel", accepted=[{"ferry.book": {"harbour": [h], "seats": [2]}} for h in ("Bodø", "Moss")])
    write(here, "irrelevance")
    return here


def call(name: str = "ferry_book", **arguments: Any) -> ToolCall:
    return ToolCall("1", name, arguments)


def test_a_folder_is_read_with_types_and_names_that_servers_take(folder: Path) -> None:
    cases = read(folder)
    assert [case.category for case in cases] == ["simple_python"] * 2 + ["parallel"] * 2 + ["irrelevance"] * 2
    first = cases[0]
    assert (first.task, first.instructions) == ("Book a simple_python ferry.", "Be brief.")
    function = first.functions[0]["function"]
    assert (function["name"], first.names) == ("ferry_book", {"ferry_book": "ferry.book"})
    types = {name: entry["type"] for name, entry in function["parameters"]["properties"].items()}
    assert types == {
        **{"harbour": "string", "seats": "integer", "price": "number", "days": "array", "point": "array"},
        **{"who": "object", "pets": "array", "open": "boolean"},
    }
    assert function["parameters"]["type"] == "object"
    assert "optional" not in function["parameters"]["properties"]["price"]


def test_one_file_and_the_first_cases_can_be_read_alone(folder: Path) -> None:
    assert [case.id for case in read(folder, 1)] == ["simple_python_0", "parallel_0", "irrelevance_0"]
    assert [case.id for case in read(folder / "BFCL_v4_parallel.json")] == ["parallel_0", "parallel_1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"harbour": "bodø  harbour", "seats": 2}, ""),
        ({"harbour": "BODØ-harbour", "seats": 2, "price": 30}, ""),
        ({"harbour": "Bodø", "seats": 2, "days": ["mon", "TUE"], "point": [1.5, 2]}, ""),
        ({"harbour": "Bodø", "seats": 2, "who": {"name": "ola"}, "open": True}, ""),
        ({"harbour": "Bodø", "seats": 2, "pets": [{"kind": "Dog"}, {"kind": "cat"}]}, ""),
        ({"harbour": "Moss", "seats": 2}, "harbour of ferry.book"),
        ({"harbour": "Bodø"}, "lacks seats"),
        ({"harbour": "Bodø", "seats": "2"}, "seats of ferry.book"),
        ({"harbour": "Bodø", "seats": 2.0}, "seats of ferry.book"),
        ({"harbour": "Bodø", "seats": 3}, "seats of ferry.book"),
        ({"harbour": "Bodø", "seats": True}, "seats of ferry.book"),
        ({"harbour": "Bodø", "seats": 2, "speed": 9}, "has no speed"),
        ({"harbour": "Bodø", "seats": 2, "open": 1}, "open of ferry.book"),
        ({"harbour": "Bodø", "seats": 2, "days": ["mon"]}, "days of ferry.book"),
        ({"harbour": "Bodø", "seats": 2, "days": "mon"}, "days of ferry.book"),
        ({"harbour": "Bodø", "seats": 2, "who": {"age": 40}}, "who of ferry.book"),
        ({"harbour": "Bodø", "seats": 2, "who": {"name": "Ola", "size": 1}}, "who of ferry.book"),
        ({"harbour": "Bodø", "seats": 2, "pets": [{"kind": "cat"}, {"kind": "dog"}]}, "pets of ferry.book"),
    ],
)
def test_a_call_is_accepted_by_the_published_rules(folder: Path, arguments: Json, said: str) -> None:
    found = problem(read(folder)[0], [call(**arguments)])
    assert said in found
    assert bool(found) == bool(said)


def test_a_parameter_may_be_left_out_only_where_an_empty_text_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, "simple_python", accepted=[{"ferry.book": {"harbour": ["Bodø"], "seats": [2], "open": [True]}}])
    (case, _) = read(tmp_path)
    assert problem(case, [call(harbour="Bodø", seats=2)]) == "ferry.book lacks open"


def test_a_variable_stands_for_a_value_where_the_answers_say_so(tmp_path: Path) -> None:
    write(tmp_path, "simple_python", accepted=[{"ferry.book": {"harbour": ["Bodø"], "seats": ["group_size"]}}])
    (case, _) = read(tmp_path)
    assert problem(case, [call(harbour="Bodø", seats="group_size")]) == ""
    assert problem(case, [call(harbour="Bodø", seats="others")]) != ""


def test_the_right_function_once_and_no_other(folder: Path) -> None:
    case = read(folder)[0]
    good = call(harbour="Bodø", seats=2)
    assert problem(case, [good]) == ""
    assert problem(case, []) == "0 calls instead of 1"
    assert problem(case, [good, good]) == "2 calls instead of 1"
    assert problem(case, [call("boat", harbour="Bodø", seats=2)]) == "boat instead of ferry.book"
    assert problem(case, [ToolCall("1", "", {}, malformed="{")]) == "no function instead of ferry.book"


def test_parallel_calls_count_in_any_order_and_each_once(folder: Path) -> None:
    case = read(folder / "BFCL_v4_parallel.json")[0]
    one, other = call(harbour="Bodø", seats=2), call(harbour="Moss", seats=2)
    assert problem(case, [other, one]) == problem(case, [one, other]) == ""
    assert problem(case, [one, one]) != ""


def test_where_no_function_is_relevant_none_may_be_called(folder: Path) -> None:
    case = read(folder / "BFCL_v4_irrelevance.json")[0]
    assert problem(case, []) == ""
    assert problem(case, [call(harbour="Bodø", seats=2)]) != ""


def test_whether_a_call_fits_its_description(folder: Path) -> None:
    case = read(folder)[0]
    assert valid(case, call(harbour="x", seats=2, price=1))
    for bad in ({"harbour": "x"}, {"harbour": "x", "seats": "2"}, {"harbour": "x", "seats": 2, "y": 1}):
        assert not valid(case, call(**bad))
    assert not valid(case, call("boat", harbour="x", seats=2))


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cases of BFCL"):
        read(tmp_path)
    write(tmp_path, "multiple")
    with pytest.raises(InputError, match=r"possible_answer/BFCL_v4_multiple\.json cannot be read"):
        read(tmp_path)
    path = write(tmp_path, "irrelevance")
    path.write_text("{}\n")
    with pytest.raises(InputError, match="not of the form"):
        read(path)
    path.write_text("not json\n")
    with pytest.raises(InputError, match="not JSON"):
        read(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no case"):
        read(path)


def model(path: Path, *replies: Json) -> str:
    lines = [{"capabilities": {"native_tools": False, "json_schema": True}}]
    lines += [{"content": json.dumps({"thought": "", **reply})} for reply in replies]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"scripted:{path}"


def action(**arguments: Any) -> Json:
    return {"action": {"name": "ferry_book", "arguments": arguments}}


def test_only_the_first_turn_counts_but_for_parallel_calls(folder: Path, tmp_path: Path) -> None:
    one, other = action(harbour="Bodø", seats=2), action(harbour="Moss", seats=2)
    address = model(tmp_path / "m.jsonl", one, one, other, {"answer": "Both are booked."}, {"answer": "No."})
    cases: list[Case] = read(folder, 1)
    rows = asyncio.run(measured.rows(BFCL, cases, address, Settings()))
    assert [(row.field, row.correct, row.calls, row.valid) for row in rows] == [
        ("simple_python", True, 1, 1),
        ("parallel", True, 2, 2),
        ("irrelevance", True, 0, 0),
    ]


def test_the_command_reads_the_folder_that_it_is_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = model(tmp_path / "m.jsonl", *[{"answer": "No."}] * 6)
    out = tmp_path / "out"
    command = ("run", "bfcl", "--cases", folder, "--model", address, "--rows", 1, "--out", out)
    assert evals(*command) == 0
    assert "## Correct by kind of case" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["suite"]["sha256"] == bfcl.sha256(folder)
    assert list(report["models"]) == [address, f"{address}, 3 examples"]
    assert report["models"][address]["summary"]["correct"]["mean"] == pytest.approx(1 / 3)


def test_without_a_folder_the_command_says_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert evals("run", "bfcl", "--model", "scripted:x") == 2
    assert "bfcl-eval" in capsys.readouterr().err
