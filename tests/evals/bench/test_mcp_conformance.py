"""The official conformance suite against our client: its verdicts are read strictly, and some scenarios are run."""

from __future__ import annotations

import shutil

import pytest

from evals.bench import mcp_conformance

GOOD = "Executing client\nPassed: 3/3, 0 failed, 0 warnings\nOVERALL: PASSED"


@pytest.mark.parametrize(
    ("said", "refused", "good"),
    [
        (GOOD, False, True),
        (GOOD.replace("0 failed", "1 failed"), False, False),
        (GOOD.replace("3/3", "0/0"), False, False),
        (GOOD + "\nClient exited with code 1", False, False),
        (GOOD + "\nClient exited with code 7", False, False),
        (GOOD + "\nClient exited with code 7", True, True),
        (GOOD + "\nClient exited with code 1", True, False),
        (GOOD, True, False),
        ("", False, False),
    ],
)
def test_a_scenario_passes_only_with_a_success_and_a_client_that_ended_as_it_should(
    said: str, refused: bool, good: bool
) -> None:
    assert mcp_conformance.passed(said, refused=refused) == good


def test_the_core_has_eighteen_scenarios() -> None:
    assert len(set(mcp_conformance.CORE)) == 18
    assert not set(mcp_conformance.CORE) & set(mcp_conformance.OTHERS)


@pytest.mark.parametrize(
    "scenario", ["tools_call", "elicitation-sep1034-client-defaults", "auth/basic-cimd", "auth/scope-retry-limit"]
)
def test_scenarios_of_the_official_suite_pass(scenario: str) -> None:
    if shutil.which("conformance") is None:
        pytest.skip(f"needs Node 22 and @modelcontextprotocol/conformance@{mcp_conformance.VERSION} on the PATH")
    good, said = mcp_conformance.run(scenario)
    assert good, said
