"""The three renderings of one trajectory: what each shows the model, and what it reads back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent import protocols
from agent.errors import UsageError
from agent.messages import Json, Message, ToolCall
from agent.models.base import Capabilities, Delta

READ: Json = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "start": {"type": "integer"}},
            "required": ["path"],
            "additionalProperties": False,
        },
    },
}
CALL = Message("assistant", thought="I look.", tool_calls=(ToolCall("call_1", "read_file", {"path": "ä.txt"}),))
SEEN = Message("tool", "hello", tool_call_id="call_1", name="read_file")


def read(protocol: protocols.ActingProtocol, text: str) -> Message:
    return protocol.parse(Message("assistant", text), 1)


@pytest.mark.parametrize(
    ("capabilities", "name"),
    [
        (Capabilities(native_tools=True, json_schema=True), "native"),
        (Capabilities(json_schema=True), "json"),
        (Capabilities(), "text"),
    ],
)
def test_auto_takes_the_best_that_the_model_can_do(capabilities: Capabilities, name: str) -> None:
    assert protocols.choose("auto", capabilities).name == name


@pytest.mark.parametrize("name", ["native", "json"])
def test_a_protocol_that_the_model_cannot_do_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="this model"):
        protocols.choose(name, Capabilities())


@pytest.mark.parametrize("name", ["json", "text"])
def test_a_call_survives_rendering_and_reading(name: str) -> None:
    protocol = protocols.choose(name, Capabilities(json_schema=True))
    assert read(protocol, protocol.render(CALL).content) == CALL


@pytest.mark.parametrize("name", ["json", "text"])
def test_an_answer_survives_rendering_and_reading(name: str) -> None:
    protocol = protocols.choose(name, Capabilities(json_schema=True))
    answer = Message("assistant", 'It says "hello".', thought="Done.")
    assert read(protocol, protocol.render(answer).content) == answer


@pytest.mark.parametrize("name", ["json", "text"])
def test_observations_are_shown_as_the_users_words(name: str) -> None:
    protocol = protocols.choose(name, Capabilities(json_schema=True))
    assert protocol.render(SEEN) == Message("user", "Observation: hello")


def test_native_shows_and_reads_messages_as_they_are() -> None:
    protocol = protocols.choose("native", Capabilities(native_tools=True))
    assert protocol.render(SEEN) is SEEN
    assert protocol.parse(CALL, 1) is CALL
    assert protocol.request([READ]) == {"tools": [READ]}
    assert protocol.instructions([READ]) == ""


def test_the_json_schema_admits_a_call_or_an_answer_and_nothing_else() -> None:
    action, answer = protocols.action_schema([READ])["anyOf"]
    assert action["properties"]["action"]["properties"]["name"] == {"const": "read_file"}
    assert action["properties"]["action"]["properties"]["arguments"] == READ["function"]["parameters"]
    assert answer["required"] == ["thought", "answer"]
    assert protocols.action_schema([]) == answer


def test_definitions_of_a_tools_schema_are_lifted_to_the_top() -> None:
    tool = {"function": {"name": "f", "parameters": {"type": "object", "$defs": {"Mode": {"enum": ["a", "b"]}}}}}
    assert protocols.action_schema([tool])["$defs"] == {"Mode": {"enum": ["a", "b"]}}


@pytest.mark.parametrize(
    "text",
    ["", "not json", '{"thought": "cut of', "[]", '{"thought": "x"}', '{"action": {"arguments": {}}}', '{"action": 3}'],
)
def test_json_that_is_no_turn_becomes_a_malformed_call_with_the_models_words(text: str) -> None:
    call = read(protocols.ConstrainedJson(), text).tool_calls[0]
    assert call.malformed == (text or "(nothing)")
    assert call.arguments == {}


def test_arguments_that_are_no_object_are_never_replaced_by_empty_ones_in_silence() -> None:
    call = read(protocols.ConstrainedJson(), '{"action": {"name": "read_file", "arguments": "a.txt"}}').tool_calls[0]
    assert call.malformed


@pytest.mark.parametrize(
    "text",
    [
        'Thought: I look.\nAction: {"name": "read_file", "arguments": {"path": "ä.txt"}}',
        'Thought: I look.\nAction: ```json\n{"name": "read_file", "arguments": {"path": "ä.txt"}}\n```',
        'Thought: I look.\nAction: read_file\nAction Input: {"path": "ä.txt"}\nObservation: made up',
        'Thought: I look.\n**Action**: {"name": "read_file", "arguments": {"path": "ä.txt"}} and then I stop',
    ],
)
def test_react_text_is_read_leniently(text: str) -> None:
    assert read(protocols.ReactText(), text) == CALL


@pytest.mark.parametrize("text", ["Final Answer: 42", "Answer: 42", "42"])
def test_react_answers_are_read_leniently(text: str) -> None:
    assert read(protocols.ReactText(), text).content == "42"


def test_a_react_action_that_cannot_be_read_is_a_malformed_call() -> None:
    call = read(protocols.ReactText(), "Thought: hm\nAction: read the file please").tool_calls[0]
    assert "read the file please" in call.malformed


def test_a_malformed_call_is_shown_to_the_model_in_its_own_words() -> None:
    message = Message("assistant", tool_calls=(ToolCall("call_1", "", {}, malformed='{"act'),))
    assert protocols.ConstrainedJson().render(message).content == '{"act'
    assert protocols.ReactText().render(message).content == 'Action: {"act'


@pytest.mark.parametrize("protocol", [protocols.ConstrainedJson(), protocols.ReactText()])
def test_instructions_name_each_tool_with_its_arguments(protocol: protocols.ActingProtocol) -> None:
    assert "read_file(path: string, start: integer?): Read a file." in protocol.instructions([READ])
    assert "read_file" not in protocol.instructions([])


def function(text: str, **properties: Json) -> Json:
    schema = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {"type": "function", "function": {"name": "book_room", "description": text, "parameters": schema}}


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"type": "string", "description": "where"}, "x: string (where)"),
        ({"type": "string", "description": "The room to book."}, "x: string"),  # the tool's own line says it
        ({"type": "array", "items": {"type": "integer"}}, "x: array of integer"),
        ({"type": "string", "enum": ["sea", "garden"]}, 'x: "sea"|"garden"'),
        ({"type": "string", "enum": [str(number) for number in range(50)]}, "x: string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x: integer"),
        ({"type": ["number", "null"]}, "x: number"),
        ({"anyOf": [{}, {"type": "null"}]}, "x: any"),
        ({"anyOf": [{"$ref": "#/$defs/y"}]}, "x: any"),
        ({"type": "string", "description": "Nights, at least one. Ask if nobody says it."}, "x: string (Nights, at"),
        ({"type": "string", "description": f"The name {'very ' * 40}long."}, "x: string (The name very very"),
    ],
)
def test_a_parameter_shows_its_choices_and_what_its_name_does_not_say(entry: Json, shown: str) -> None:
    line = protocols.listed([function("Book a room.", x=entry)])
    assert line.startswith(f"- book_room({shown}")
    assert len(line) < 180
    assert line.endswith("): Book a room.")


def test_a_person_sees_the_strings_of_a_json_reply_as_they_come() -> None:
    visible = protocols.Visible(protocols.ConstrainedJson())
    raw = json.dumps({"thought": 'a "quoted" word\n', "answer": "done ä"})
    shown = [visible(Delta(char)) for char in raw]
    text = {kind: "".join(d.text for d in shown if d and d.kind == kind) for kind in ("thought", "text")}
    assert text == {"thought": 'a "quoted" word\n', "text": "done ä"}


def test_a_person_sees_a_react_answer_without_its_keyword() -> None:
    visible = protocols.Visible(protocols.ReactText())
    shown = [visible(Delta(word)) for word in ("Thought: so\n", "Answer: ", "for", "ty")]
    assert "".join(d.text for d in shown if d and d.kind == "text") == "forty"


def test_native_text_is_shown_as_it_is() -> None:
    delta = Delta("Answer: x")
    assert protocols.Visible(protocols.Native())(delta) is delta


@pytest.mark.parametrize("name", ["json", "text"])
def test_every_call_of_an_earlier_turn_is_shown(name: str) -> None:
    protocol = protocols.choose(name, Capabilities(json_schema=True))
    other = ToolCall("call_2", "write_file", {"path": "other.txt"})
    shown = protocol.render(replace(CALL, tool_calls=(*CALL.tool_calls, other))).content
    assert shown.startswith(protocol.render(CALL).content + "\n")
    assert "other.txt" in shown
