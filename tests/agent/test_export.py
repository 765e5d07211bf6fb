"""Runs leave the store in four formats; each is read back the way its readers do."""

from __future__ import annotations

import builtins
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import OutputError, UsageError
from agent.export import FORMATS, export
from agent.messages import Detail, Json, Message, Route, ToolCall, Trajectory, Usage

TOOL = {
    "type": "function",
    "function": {"name": "read_file", "description": "Read.", "parameters": {"type": "object", "properties": {}}},
}


def a_run(run_id: str = "a1", parent_id: str = "") -> Trajectory:
    """Two turns: one calls two tools (one call is malformed, one result an error), one answers."""
    calls = (ToolCall("c1", "read_file", {"path": "ä.txt"}), ToolCall("c2", "read_file", {}, "{broken"))
    first = Detail(
        model="smollm2@1",
        adapter="annotate@3",
        sampling={"temperature": 0.5, "max_tokens": 64, "seed": 7, "stop": ["</s>"]},
        usage=Usage(100, 20, 1.5, 0.25),
        finish_reason="tool_calls",
        seconds=2.0,
        token_ids=(1, 49151),
        logprobs=(-0.5, -0.25),
        preference="chosen",
    )
    last = Detail(usage=Usage(150, 5, 0.5), finish_reason="stop", seconds=1.0)
    pairs = [
        (Message("system", "You act."), Detail()),
        (Message("user", "Count them."), Detail()),
        (Message("assistant", "Looking.", "I need both.", calls), first),
        (Message("tool", "one\ntwo", tool_call_id="c1", name="read_file"), Detail(seconds=0.5)),
        (Message("tool", "no such file", tool_call_id="c2", name="read_file", is_error=True), Detail(seconds=0.25)),
        (Message("assistant", "Two lines. 🔎"), last),
    ]
    return Trajectory(
        run_id,
        "count them",
        parent_id,
        ["annotate"],
        "openai@http://h/v1:m",
        [TOOL],
        Route("openai@http://h/v1:m", "flag", "you said so"),
        "success",
        "answer",
        0.75,
        {"verdict": "good"},
        Usage(250, 25, 2.0, 0.25),
        1000.0,
        1004.0,
        "/w",
        [message for message, _ in pairs],
        [detail for _, detail in pairs],
    )


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_messages_are_openai_rows_with_arguments_as_json_strings(tmp_path: Path) -> None:
    assert export([a_run(), a_run("a2")], "messages", tmp_path / "out.jsonl") == 2
    row, second = lines(tmp_path / "out.jsonl")
    assert second["id"] == "a2"
    assert {key: row[key] for key in ("id", "model", "outcome", "score", "labels", "skills")} == {
        "id": "a1",
        "model": "openai@http://h/v1:m",
        "outcome": "success",
        "score": 0.75,
        "labels": {"verdict": "good"},
        "skills": ["annotate"],
    }
    assert row["tools"] == [TOOL]
    assert row["preferences"] == ["", "", "chosen", "", "", ""]
    assert row["messages"][2] == {
        "role": "assistant",
        "content": "Looking.",
        "reasoning_content": "I need both.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": '{"path":"ä.txt"}'}},
            {"id": "c2", "type": "function", "function": {"name": "read_file", "arguments": "{broken"}},
        ],
    }
    assert row["messages"][3] == {"role": "tool", "content": "one\ntwo", "tool_call_id": "c1", "name": "read_file"}
    assert row["messages"][5] == {"role": "assistant", "content": "Two lines. 🔎"}


def test_sharegpt_turns_carry_calls_and_results_in_their_text(tmp_path: Path) -> None:
    export([a_run()], "sharegpt", tmp_path / "out.jsonl")
    [row] = lines(tmp_path / "out.jsonl")
    turns = row["conversations"]
    assert [turn["from"] for turn in turns] == ["system", "human", "gpt", "tool", "gpt"]
    assert turns[2]["value"] == (
        "<think>\nI need both.\n</think>\nLooking.\n"
        '<tool_call>\n{"name":"read_file","arguments":{"path":"ä.txt"}}\n</tool_call>\n'
        "<tool_call>\n{broken\n</tool_call>"
    )
    assert turns[3]["value"].count("<tool_response>") == 2
    assert json.loads(row["tools"]) == [TOOL]


def test_parquet_holds_everything_that_is_on_record(tmp_path: Path) -> None:
    import pyarrow.parquet

    runs = [a_run(f"r{number}") for number in range(450)]
    runs[1].route = None
    assert export(runs, "parquet", tmp_path / "out.parquet") == 450
    file = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups == 3, "it was written in groups, not in one piece"
    rows = file.read().to_pylist()
    row, run = rows[0], runs[0]
    for name in ("id", "task", "model", "outcome", "reason", "score", "started", "ended", "workspace", "skills"):
        assert row[name] == getattr(run, name), name
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost"], row["seconds"]) == (250, 25, 0.25, 2.0)
    assert json.loads(row["tools"]) == [TOOL]
    assert json.loads(row["labels"]) == {"verdict": "good"}
    assert json.loads(row["route"])["reason"] == "you said so"
    assert rows[1]["route"] is None
    turn = row["messages"][2]
    assert (turn["content"], turn["thought"], turn["preference"]) == ("Looking.", "I need both.", "chosen")
    assert (turn["token_ids"], turn["logprobs"], turn["adapter"]) == ([1, 49151], [-0.5, -0.25], "annotate@3")
    assert json.loads(turn["tool_calls"])[1]["malformed"] == "{broken"
    assert json.loads(turn["sampling"])["seed"] == 7
    assert (turn["seconds"], turn["cost"]) == (2.0, 0.25)
    assert [message["is_error"] for message in row["messages"]] == [False] * 4 + [True, False]


def test_no_runs_make_an_empty_file_that_readers_accept(tmp_path: Path) -> None:
    import pyarrow.parquet

    for kind in FORMATS:
        assert export([], kind, tmp_path / kind) == 0
    assert (tmp_path / "messages").read_bytes() == b""
    assert pyarrow.parquet.read_table(tmp_path / "parquet").num_rows == 0


class TestOtel:
    """Checked against the field names of opentelemetry.proto.trace.v1 and its JSON encoding."""

    SPAN = ("traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes")
    VALUES = ("stringValue", "boolValue", "intValue", "doubleValue", "arrayValue")

    def spans(self, tmp_path: Path, *runs: Trajectory) -> list[Json]:
        path = tmp_path / "out.jsonl"
        path.unlink(missing_ok=True)
        export(runs, "otel", path)
        found = []
        for request in lines(path):
            assert set(request) == {"resourceSpans"}
            [resource] = request["resourceSpans"]
            assert set(resource) == {"resource", "scopeSpans"}
            assert self.values(resource["resource"])["service.name"] == "apprentice"
            [scope] = resource["scopeSpans"]
            assert set(scope) == {"scope", "spans"}
            assert set(scope["scope"]) == {"name", "version"}
            found += scope["spans"]
        return found

    def values(self, holder: Json) -> Json:
        """The attributes as a dict, each checked to be an AnyValue."""

        def plain(value: Json) -> Any:
            [(kind, content)] = value.items()
            assert kind in self.VALUES
            if kind == "arrayValue":
                return [plain(entry) for entry in content["values"]]
            if kind == "intValue":
                assert isinstance(content, str), "64-bit integers are strings in OTLP/JSON"
                return int(content)
            return content

        return {entry["key"]: plain(entry["value"]) for entry in holder["attributes"]}

    def test_spans_have_otlps_fields_and_form_a_tree(self, tmp_path: Path) -> None:
        root, *steps = spans = self.spans(tmp_path, a_run())
        for span in spans:
            assert set(span) <= {*self.SPAN, "status"}
            assert len(bytes.fromhex(span["traceId"])) == 16
            assert len(bytes.fromhex(span["spanId"])) == 8
            assert span["kind"] in (1, 3)
            assert span["status"]["code"] in (0, 1, 2)
            assert isinstance(span["startTimeUnixNano"], str)
            assert 1000 * 10**9 <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= 1004 * 10**9
            assert span["traceId"] == root["traceId"]
        assert "parentSpanId" not in root
        assert {step["parentSpanId"] for step in steps} == {root["spanId"]}
        assert len({span["spanId"] for span in spans}) == 5
        assert [span["name"] for span in spans] == [
            "invoke_agent annotate",
            "chat smollm2@1",
            "execute_tool read_file",
            "execute_tool read_file",
            "chat openai@http://h/v1:m",
        ]

    def test_steps_lie_end_to_end_and_calls_of_a_turn_side_by_side(self, tmp_path: Path) -> None:
        spans = self.spans(tmp_path, a_run())
        times = [(int(span["startTimeUnixNano"]) / 1e9, int(span["endTimeUnixNano"]) / 1e9) for span in spans]
        assert times == [(1000, 1004), (1000, 1002), (1002, 1002.5), (1002, 1002.25), (1002.5, 1003.5)]

    def test_attributes_follow_the_genai_conventions(self, tmp_path: Path) -> None:
        root, chat, tool, broken, _ = [self.values(span) for span in self.spans(tmp_path, a_run())]
        assert root["gen_ai.operation.name"] == "invoke_agent"
        assert root["gen_ai.provider.name"] == "openai"
        assert (root["gen_ai.usage.input_tokens"], root["gen_ai.usage.output_tokens"]) == (250, 25)
        assert json.loads(root["gen_ai.system_instructions"]) == [{"type": "text", "content": "You act."}]
        assert json.loads(root["gen_ai.input.messages"])[0]["parts"][0]["content"] == "Count them."
        assert json.loads(root["gen_ai.tool.definitions"])[0]["name"] == "read_file"
        assert chat["gen_ai.operation.name"] == "chat"
        assert chat["gen_ai.response.model"] == "smollm2@1"
        assert chat["gen_ai.request.temperature"] == 0.5
        assert (chat["gen_ai.request.max_tokens"], chat["gen_ai.request.seed"]) == (64, 7)
        assert chat["gen_ai.request.stop_sequences"] == ["</s>"]
        assert chat["gen_ai.response.finish_reasons"] == ["tool_call"]
        [output] = json.loads(chat["gen_ai.output.messages"])
        assert [part["type"] for part in output["parts"]] == ["reasoning", "text", "tool_call", "tool_call"]
        assert output["parts"][2]["arguments"] == {"path": "ä.txt"}
        assert tool["gen_ai.operation.name"] == "execute_tool"
        assert (tool["gen_ai.tool.name"], tool["gen_ai.tool.call.id"]) == ("read_file", "c1")
        assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"path": "ä.txt"}
        assert tool["gen_ai.tool.call.result"] == "one\ntwo"
        assert "error.type" not in tool
        assert broken["error.type"] == "tool_error"
        assert broken["gen_ai.tool.call.arguments"] == "{broken"

    def test_failures_have_error_status(self, tmp_path: Path) -> None:
        run = a_run()
        run.outcome, run.reason, run.model, run.skills = "failure", "step budget", "local", []
        run.details[5] = Detail(error="the server fell over")
        spans = self.spans(tmp_path, run)
        assert spans[0]["status"] == {"code": 2, "message": "step budget"}
        assert self.values(spans[0])["gen_ai.provider.name"] == "llama.cpp"
        assert spans[3]["status"] == {"code": 2, "message": "no such file"}
        assert spans[4]["status"] == {"code": 2, "message": "the server fell over"}
        run.ended = 0.0
        assert self.values(self.spans(tmp_path, run)[0])["apprentice.interrupted"] is True

    def test_sub_runs_hang_under_their_parent_in_its_trace(self, tmp_path: Path) -> None:
        spans = self.spans(tmp_path, a_run("p"), a_run("q", "p"), a_run("r", "q"))
        roots = [span for span in spans if span["name"].startswith("invoke_agent")]
        assert len({span["traceId"] for span in spans}) == 1
        assert [root.get("parentSpanId") for root in roots] == [None, roots[0]["spanId"], roots[1]["spanId"]]
        [alone] = [span for span in self.spans(tmp_path, a_run("q", "p")) if span["name"].startswith("invoke_agent")]
        assert (alone["traceId"], alone["spanId"]) == (roots[1]["traceId"], roots[1]["spanId"])


class TestWriting:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_full_disk_leaves_nothing_new_and_keeps_what_was_there(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "out"
        path.write_text("the older export")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                export((self.unlike(number) for number in range(2000)), kind, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert os.listdir(tmp_path) == ["out"]
        assert path.read_text() == "the older export"

    @staticmethod
    def unlike(number: int) -> Trajectory:
        """A run that does not compress well."""
        run = a_run(os.urandom(20).hex())
        run.messages[5] = Message("assistant", os.urandom(200).hex())
        return run

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_run_that_cannot_be_read_leaves_no_half_file(self, tmp_path: Path, kind: str) -> None:
        def broken() -> Iterator[Trajectory]:
            yield a_run()
            raise OutputError("the store is damaged")

        with pytest.raises(OutputError, match="the store is damaged"):
            export(broken(), kind, tmp_path / "out")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_folder_that_is_not_there_is_told(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(OutputError, match="cannot be written"):
            export([a_run()], kind, tmp_path / "none" / "out")

    def test_an_unknown_format_names_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="'csv'") as caught:
            export([], "csv", tmp_path / "out")
        assert "messages, sharegpt, parquet, otel" in caught.value.hint

    def test_without_pyarrow_it_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *rest: Any, **more: Any) -> Any:
            if name.startswith("pyarrow"):
                raise ImportError(name)
            return real(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(OutputError, match="pyarrow") as caught:
            export([], "parquet", tmp_path / "out")
        assert "pip install" in caught.value.hint

    @pytest.mark.parametrize("kind", ["messages", "sharegpt", "otel"])
    def test_many_runs_do_not_fill_the_memory(self, tmp_path: Path, kind: str) -> None:
        export([a_run()], kind, tmp_path / "warm")
        tracemalloc.start()
        try:
            export((a_run(str(number)) for number in range(600)), kind, tmp_path / "out")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < (tmp_path / "out").stat().st_size / 2

    def test_importing_it_loads_no_pyarrow(self) -> None:
        code = "import sys, agent.export, agent.otel; sys.exit('pyarrow' in sys.modules)"
        assert (
            subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}).returncode == 0
        )
