"""A changed line differs from the one before in what was changed, and in nothing else."""

from __future__ import annotations

import json

import pytest

from agent.beads.lines import appended, changed

ODD = (
    b'{ "id":"bd-1" ,  "n" : 1.00, "big": 123456789012345678901234567890.5, "t": "\\u003ca\\/b", "status":"open" }\r\n'
)


def test_only_the_changed_value_differs() -> None:
    assert changed(ODD, {"status": "closed"}) == ODD.replace(b'"open"', b'"closed"')


def test_what_is_new_comes_at_the_end() -> None:
    line = changed(ODD, {"assignee": "ann", "status": "x", "closed_at": None})
    assert line == ODD.replace(b'"open"', b'"x","assignee":"ann","closed_at":null')
    assert changed(b"{}\n", {"a": 1}) == b'{"a":1}\n'
    assert changed(b"\xef\xbb\xbf{ }", {"a": 1}) == b'\xef\xbb\xbf{"a":1 }'


def test_a_key_that_stands_there_twice_is_changed_twice() -> None:
    assert changed(b'{"a":1,"a":2}', {"a": 3}) == b'{"a":3,"a":3}'


def test_braces_inside_of_texts_are_text() -> None:
    line = json.dumps({"a": '}{",', "b": {"c": ["}"]}}).encode()
    assert json.loads(changed(line, {"d": "\u00e9"})) == {"a": '}{",', "b": {"c": ["}"]}, "d": "\u00e9"}


def test_an_entry_is_added_to_a_list_and_the_others_stay_as_they_are() -> None:
    assert appended(b'{"l":[ 1.0 ],"x":2}', "l", {"a": 1}) == b'{"l":[ 1.0 ,{"a":1}],"x":2}'
    assert appended(b'{"l":[]}', "l", 1) == b'{"l":[1]}'
    assert appended(b'{"x":2}', "l", 1) == b'{"x":2,"l":[1]}'
    assert appended(b'{"l":null}', "l", 1) == b'{"l":[1]}'


def test_half_a_character_stays_an_escape() -> None:
    assert changed(b"{}", {"a": "\ud800"}) == b'{"a":"\\ud800"}'


@pytest.mark.parametrize("line", [b"[1]", b"", b"3"])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        changed(line, {"a": 1})
