"""Which rows an improvement is made from: the gate's, the incumbent's own, and those that nobody may learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.messages import Detail, Trajectory
from agent.registry import Specialist
from tests.training.dataset.material import key, paper_run
from training.dataset.candidates import Ledger, candidate
from training.dataset.selection import Rules, select
from training.dataset.split import Shares, position
from training.improvement.material import replayed
from training.improvement.state import State, read
from training.rows import Row, Source, document_key

SHA = "a1" * 32
INCUMBENT = Specialist("annotate", "3", Path("/nowhere"), {"adapter": {"sha256": SHA}})
OURS = Detail(model="base", adapter=f"annotate/3 (sha256:{SHA[:12]})")
GROWS = Shares(validation=0.1, gate=0.1, least=40, most=0.5)


def rows(documents: int, source: Source = "gold", first: int = 0) -> list[Row]:
    """Rows about documents that have nothing in common."""
    texts = [" ".join(f"w{number}x{word}" for word in range(12)) for number in range(first, first + documents)]
    return [_candidate(text, source).row for text in texts]


def _candidate(text: str, source: Source):  # type: ignore[no-untyped-def]
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": f"answer to {text}"}]
    return candidate(
        document=document_key(text), text=text, skill="annotate", messages=messages, source=source,
        provenance={}, where=text,
    )  # fmt: skip


def chosen(found: list[Row], rules: Rules, ledger: Ledger | None = None) -> dict[str, list[Row]]:
    again = [_candidate(str(row.messages[0]["content"]), row.source) for row in found]
    return dict(select(again, [], {}, rules, ledger or Ledger()))


def test_the_gate_grows_until_enough_is_kept_out() -> None:
    found = chosen(rows(100), Rules(GROWS))
    assert len(found["gate"]) == 40
    assert len(found["validation"]) + len(found["train"]) == 60
    assert max(position(row.document) for row in found["gate"]) < min(position(row.document) for row in found["train"])


def test_the_gate_never_takes_more_than_half() -> None:
    found = chosen(rows(60), Rules(GROWS))
    assert 0 < len(found["gate"]) < 40
    assert all(position(row.document) < 0.5 for row in found["gate"])


def test_as_the_record_grows_the_gate_shrinks_into_what_it_was() -> None:
    few, many = (chosen(rows(count), Rules(GROWS)) for count in (100, 600))
    trained = {row.document for row in few["train"]} | {row.document for row in few["validation"]}
    assert {row.document for row in many["gate"]} & trained == set()
    assert len(many["gate"]) >= 40


def test_without_leave_to_grow_the_gate_stays_as_it_is() -> None:
    assert Shares().grown([0.5] * 100) == Shares()


def test_what_the_incumbent_has_seen_is_not_in_the_gate() -> None:
    before = chosen(rows(100), Rules(GROWS))["gate"]
    seen = frozenset(row.document for row in before[:3])
    after = chosen(rows(100), Rules(GROWS, seen=seen))
    assert {row.document for row in after["gate"]} & seen == set()
    assert {row.document for row in after["train"]} >= seen
    assert len(after["gate"]) == 40


def test_replay_does_not_outweigh_what_is_verified() -> None:
    ledger = Ledger()
    found = chosen([*rows(100), *rows(200, "replay", first=1000)], Rules(GROWS, replay=0.5), ledger)
    verified = [row for row in found["train"] if row.verified]
    assert len(found["train"]) == len(verified) + len(verified) // 2
    assert all(row.verified for split in ("validation", "gate") for row in found[split])
    assert "more replay than the verified rows allow" in ledger.reasons


def _by(number: int, detail: Detail, **more: object) -> Trajectory:
    run = paper_run(number)
    details = [*run.details[:-1], detail]
    return replace(run, details=details, **more)  # type: ignore[arg-type]


def test_only_what_the_incumbent_said_and_nobody_objected_to_is_replayed() -> None:
    runs = [
        _by(0, OURS),
        _by(1, Detail(model="base")),
        _by(2, OURS, correction=paper_run(2).messages[-1].content),
        _by(3, OURS, labels={"verdict": "bad"}),
        _by(4, OURS),
        Trajectory("talk", "hello"),
    ]
    kept = {run.id for run in runs} - {"paper04"}
    found = list(replayed(iter(runs), kept, INCUMBENT))
    assert [one.row.document for one in found] == [key(0)]
    assert found[0].row.source == "replay"
    assert found[0].row.provenance["run"] == "paper00"


def test_a_broken_off_state_is_gone_on_with_and_a_finished_one_is_not(tmp_path: Path) -> None:
    import asyncio

    async def work(key: str) -> dict[str, str]:
        done.append(key)
        return {"told": key}

    done: list[str] = []
    asyncio.run(State(tmp_path, {"a": 1}).stage("curate", None, work))
    again = State(tmp_path, {"a": 1})
    assert again.resumed
    assert asyncio.run(again.stage("curate", None, work)) == ({"told": done[0]}, True)
    assert asyncio.run(again.stage("curate", "other inputs", work))[1] is False
    assert len(done) == 2
    again.finish({"promoted": False})
    after = State(tmp_path, {"a": 1})
    assert not after.resumed
    assert after.before["result"] == {"promoted": False}
    assert not State(tmp_path, {"a": 2}).before
    assert not State(tmp_path, {"a": 1}, restart=True).before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"request": 1}'])
def test_an_unreadable_state_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read(tmp_path) == {}


def test_products_of_other_inputs_are_removed(tmp_path: Path) -> None:
    (tmp_path / "run-old").mkdir()
    (tmp_path / "run-new").mkdir()
    assert State(tmp_path, {}).product("run", "new") == tmp_path / "run-new"
    assert [path.name for path in tmp_path.iterdir()] == ["run-new"]
