"""Long outputs: what is shown, and the file that holds the whole."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from tests.tools.conftest import MakeContext
from tools.files import read_file
from tools.output import Output, shown
from tools.registry import call


def test_an_output_that_fits_is_shown_whole_without_a_file(make_context: MakeContext) -> None:
    context = make_context(output_limit=200)
    assert shown(context, "x", "a" * 200) == "a" * 200
    assert not context.outputs.exists()


def test_a_longer_one_shows_both_ends_and_the_file_has_all(make_context: MakeContext) -> None:
    context = make_context(output_limit=200)
    text = "".join(f"line {number}\n" for number in range(1000))
    answer = shown(context, "x", text)
    (path,) = context.outputs.iterdir()
    assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before, note, after = answer.partition(f"\n[{len(text) - 200:,} characters are left out here; ")
    assert note
    assert before == text[:150]
    assert after == f"read_file reads the whole output in {path}]\n{text[-50:]}"


def test_the_file_is_readable_for_the_model_and_its_folder_is_not(make_context: MakeContext) -> None:
    context = make_context(output_limit=200)
    shown(context, "x", "first\n" + "x\n" * 500)
    (path,) = context.outputs.iterdir()
    assert "first" in asyncio.run(call(read_file, context, {"path": str(path), "end": 1}))
    assert context.workspace.readable == (path,)


@pytest.mark.parametrize("size", [1, 7, 64, 5000])
def test_the_same_is_shown_and_kept_however_the_output_is_cut(make_context: MakeContext, size: int) -> None:
    context = make_context(output_limit=200)
    text = "".join(f"line {number}\n" for number in range(300))
    output = Output(context, "x")
    for start in range(0, len(text), size):
        output.add(text[start : start + size])
    answer = output.close()
    (path,) = context.outputs.iterdir()
    assert path.read_text() == text
    assert answer.startswith(text[:150] + "\n[")
    assert answer.endswith("]\n" + text[-50:])


def test_a_secret_cut_by_chunks_is_neither_shown_nor_kept(make_context: MakeContext) -> None:
    context = make_context(output_limit=200, environment={"SERVICE_TOKEN": "correct-horse-battery"})
    output = Output(context, "x")
    for piece in ("x\n" * 200, "the token is correct-", "horse-bat", "tery\n", "y\n" * 5):
        output.add(piece)
    answer = output.close()
    (path,) = context.outputs.iterdir()
    for text in (answer, path.read_text()):
        assert "[redacted:environment-value]" in text
        assert "horse" not in text


def test_a_rest_that_cannot_be_saved_is_said_to_be_lost(make_context: MakeContext, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    context = make_context(output_limit=200, outputs=tmp_path / "file" / "below")
    answer = shown(context, "x", "a" * 1000)
    assert "they could not be saved: Not a directory" in answer
    assert context.workspace.readable == ()


def test_a_full_disk_does_not_fail_the_tool(make_context: MakeContext, tmp_path: Path) -> None:
    class Full(Output):
        """Writes to the device that is always full."""

        def _begin_file(self, text: str) -> None:
            self._file = open("/dev/full", "w")  # noqa: SIM115
            self._write(text)

    output = Full(make_context(output_limit=200), "x")
    for _ in range(100):
        output.add("a\n" * 1000)
    assert "they could not be saved: No space left on device" in output.close()
    output.discard()
