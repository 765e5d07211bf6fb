"""Evolve steps: a task is rewritten to be harder, rarer or shorter; it stays a task that can be done.

The idea of rewriting tasks step by step is Evol-Instruct's (Xu et al., "WizardLM", 2023); the steps and words are ours.
"""

from __future__ import annotations

from agent.errors import UsageError

STEPS = {
    "harder": "Make it harder to work on: more facts that belong together, a condition, a comparison that goes both "
    "ways. It must stay clear and complete.",
    "rarer": "Move it to a rarer setting: an unusual subject, population, instrument or situation that few would think "
    "of. Change the names and figures with it.",
    "shorter": "Say it in at most two thirds of the words, and keep every figure. Leave out what repeats.",
}


def steps_of(given: str) -> tuple[str, ...]:
    """The steps of a list with commas, in order, each once. Raises UsageError for one that does not exist."""
    steps = tuple(dict.fromkeys(filter(None, (word.strip() for word in given.split(",")))))
    for step in steps:
        if step not in STEPS:
            raise UsageError(f"there is no evolve step {step!r}", f"There are: {', '.join(STEPS)}.")
    return steps


def instruction(step: str) -> str:
    """What a teacher is told to do with a task."""
    return f"Rewrite the text that follows. {STEPS[step]} Write the rewritten text only, in the form asked for."


def changed(before: str, after: str, step: str) -> str:
    """Why a rewritten task is no progress; empty if it is.

    Args:
        before: the task.
        after: what the step made of it.
        step: its name.
    """
    old, new = before.split(), after.split()
    if old == new:
        return "the evolve step changed nothing"
    if step == "shorter" and len(new) >= len(old):
        return "the evolve step made it longer"
    if step == "harder" and len(new) < 0.7 * len(old):
        return "the evolve step lost content"
    return ""
