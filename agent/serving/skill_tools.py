"""Skills that are instructions, such as summarize and review: each is a tool that works in the ReAct loop.

The words of a call are another agent's: no skill, `save to` or path is looked for in them. Tools whose effects no flag
allows are not offered to the model, since nobody is there to be asked.
"""

from __future__ import annotations

from dataclasses import replace

from mcp_types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field

from agent import router
from agent.commands.task import work_freely
from agent.consent import Consent
from agent.errors import UsageError
from agent.messages import Outcome
from agent.serving.call import Call, result
from skills.registry import Job, Skill
from tools.registry import Tool


class Arguments(BaseModel):
    """What a client gives."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(default="", description="the text itself; or give a path")
    path: str = Field(default="", description="a text file of the workspace")
    wish: str = Field(default="", description="what else matters: for whom, how long, which question")


class Answer(BaseModel):
    """What such a skill returns as data."""

    answer: str = Field(description="empty if the run ended without one")
    outcome: Outcome
    reason: str = Field(description="why the run ended")
    run: str = Field(description="its id on record")


async def serve(call: Call, skill: Skill, arguments: Arguments) -> CallToolResult:
    """Let the loop do what a skill says with a text or a file.

    Raises:
        UsageError: neither or both of a text and a path; no model is configured.
        ToolError: the path leads out of the workspace, or is no text file.
        ModelError: the model failed; the record says so.
    """
    session = call.session
    if bool(arguments.text.strip()) == bool(arguments.path):
        raise UsageError(f"{skill.name} needs a text or a path, one of the two")
    if arguments.path:
        with session.workspace.open(arguments.path):  # so that a wrong name costs no model's time
            pass
    offered = {name: found for name, found in session.tools.items() if possible(found, session.consent)}
    own = replace(session, tools=offered)
    route = router.route(session.settings, flag=call.model, skills=[skill])
    named = arguments.path or "a client's text"
    answer = await work_freely(Job(own, _task(arguments), f"/{skill.name} {named}", route, (skill,)))
    end = call.ends[-1].data
    data = Answer(answer=answer, outcome=end["outcome"], reason=end["reason"], run=call.runs[-1])
    failed = end["outcome"] != "success"
    text = f"{answer}\n\nThis is not a whole answer: {end['reason']}." if failed else answer
    return result(call, text.strip(), data, failed=failed)


def possible(found: Tool, consent: Consent) -> bool:
    """Whether anything lets this tool have its effect: reading needs nobody, the others a flag or a setting."""
    hosts = any(effect.startswith(f"{found.effect}:") for effect in consent.allowed)
    return (
        found.effect == "read" or found.effect in consent.allowed or hosts or (found.effect == "write" and consent.yes)
    )


def _task(arguments: Arguments) -> str:
    source = f"The source is the file {arguments.path}." if arguments.path else f"The source is:\n\n{arguments.text}"
    return f"{arguments.wish.strip()}\n\n{source}".strip()
