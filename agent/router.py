"""Which model takes a task, and why.

In this order: the user's --model; the active skill's promoted specialist; models.default. `models.strong` takes over
what fails its validators or was given up. privacy = local-only removes whatever would leave this machine, from all of
them. The embedded base is never chosen unasked: it answers anything, and badly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from agent import registry
from agent.errors import ConsentDenied, UsageError
from agent.messages import Route, Trajectory
from agent.settings import Settings

if TYPE_CHECKING:
    from skills.registry import Skill


def route(settings: Settings, *, flag: str = "", skills: Sequence[Skill] = ()) -> Route:
    """Choose the model for a task.

    Args:
        settings: privacy and the configured models.
        flag: the address given as --model; empty if none.
        skills: the active skills; the first whose specialist is promoted decides.

    Raises:
        ConsentDenied: the chosen model would leave this machine, and privacy is local-only.
        UsageError: nothing is configured that could take the task.
    """
    address, rule, reason = _choose(settings, flag, skills)
    if settings.privacy == "local-only" and not registry.is_local(address, settings):
        raise ConsentDenied(
            f"{address} would leave this machine, and privacy is local-only",
            "Give --model with a local one (local, gguf:PATH, ollama:NAME), or change `privacy`.",
        )
    return Route(address, rule, reason, _escalation(settings, address))


Attempt = Callable[[Route], Awaitable[tuple[Trajectory, str, bool]]]
"""Does a task by this route, in a run of its own: the run as it ended, the answer, whether the model was the reason."""


async def with_escalation(given: Route, attempt: Attempt) -> tuple[Trajectory, str]:
    """Have a task done, and by the route's stronger model what the first could not do (not what cost too much).

    Args:
        given: the model that takes it first, and the one that takes over; that may be none.
        attempt: does it by a route.

    Returns:
        The run that came last, as it ended, and its answer.
    """
    run, answer, gave_up = await attempt(given)
    if gave_up and given.escalation:
        reason = f"{given.model} gave up in run {run.id}: {run.reason}"
        run, answer, _ = await attempt(Route(given.escalation, "escalation", reason))
    return run, answer


def _choose(settings: Settings, flag: str, skills: Sequence[Skill]) -> tuple[str, str, str]:
    if flag:
        return flag, "flag", "you gave --model"
    for skill in skills:
        name = skill.metadata.get("specialist", "")
        found = registry.promoted(name, settings) if name else None
        if found:
            return found.address, "specialist", f"{skill.name} has the specialist {name}, version {found.version}"
    if settings.models.default:
        return settings.models.default, "default", "it is models.default"
    raise UsageError(
        "no model is set for this task",
        "Set models.default (`apprentice config set models.default ollama:NAME`), or give --model; "
        "--model local insists on the small embedded one.",
    )


def _escalation(settings: Settings, chosen: str) -> str:
    strong = settings.models.strong
    if not strong or strong == chosen:
        return ""
    if settings.privacy == "local-only" and not registry.is_local(strong, settings):
        return ""
    return strong
