"""Which of many tools a model is shown: those that fit the task's words, and `find_tools`, which adds others.

The score is BM25 over the words of a tool's name, description and parameters. It needs no model and no index: a hundred
words a tool are counted in microseconds, and only for the words that the task holds. Words meet in a few of their
forms (issue, issues; create, creating).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from agent.messages import Json
from tools.registry import Tool, ToolContext

K1, B = 1.2, 0.75
"""BM25's usual constants: how fast a repeated word saturates, and how much a long description costs."""
NAME_WEIGHT = 3
"""How often a word of the name counts: names are chosen, descriptions ramble."""
FOUND = 5
"""Tools that one find_tools adds."""
MOST_WORDS = 64
"""Words of a task that are looked for: a pasted text would match everything."""
STOP = frozenset(
    re.findall(
        r"\w+",
        """a an the of to in on for and or that this these those is are was were be been by with as at from it its i me
        my you your we our they their what which who how please can could would should do does did will not no all any
        some if then than into about up out so need want there here have has had""",
    )
)
BLANK = str.maketrans({char: " " for char in map(chr, range(1, 128)) if not char.isalnum()})
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Index:
    """Tools to search.

    Args:
        tools: by name.
    """

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.names = list(tools)
        together = "\0".join([_text(tool).replace("\0", " ") for tool in tools.values()])  # one pass over all is faster
        self.texts = together.lower().translate(BLANK).split("\0") if tools else []
        self.mean = sum(map(len, self.texts)) / max(len(self.names), 1)

    def best(self, query: str, most: int) -> list[str]:
        """The names of the tools that fit a text best, best first; those that share no word with it are left out."""
        forms = query_forms(query)
        if not forms:
            return []
        wanted = frozenset(forms)
        hits = [(place, found) for place, text in enumerate(self.texts) if (found := wanted.intersection(text.split()))]
        frequency = Counter(term for _, found in hits for term in {forms[word] for word in found})
        total = len(self.names)
        weight = {term: math.log(1 + (total - n + 0.5) / (n + 0.5)) for term, n in frequency.items()}
        scored = [(-self._score(self.texts[place], found, forms, weight), place) for place, found in hits]
        return [self.names[place] for _, place in sorted(scored)[:most]]

    def _score(self, text: str, found: Iterable[str], forms: Mapping[str, str], weight: Mapping[str, float]) -> float:
        words, counts = text.split(), Counter[str]()
        for word in found:
            counts[forms[word]] += words.count(word)
        length = K1 * (1 - B + B * len(text) / self.mean)
        return sum(weight[term] * n * (K1 + 1) / (n + length) for term, n in counts.items())


def _text(tool: Tool) -> str:
    """What a tool is found by: its name several times, its description and its parameters."""
    name = tool.name if tool.name.islower() else HUMP.sub(" ", tool.name)
    parameters = tool.parameters if isinstance(tool.parameters, dict) else tool.schema["function"]["parameters"]
    pieces = [name] * NAME_WEIGHT + [tool.description]
    for key, entry in parameters.get("properties", {}).items():
        pieces.append(key)
        if isinstance(entry, dict) and "description" in entry:
            pieces.append(str(entry["description"]))
    return " ".join(pieces)


def query_forms(query: str) -> dict[str, str]:
    """The forms in which a text's words are looked for, each with the word that it stands for."""
    words = [word for word in HUMP.sub(" ", query).lower().translate(BLANK).split() if word not in STOP]
    forms: dict[str, str] = {}
    for word in dict.fromkeys(words[:MOST_WORDS]):
        for form in (word, *_forms(word)):
            forms.setdefault(form, forms.get(word, word))
    return forms


def _forms(word: str) -> list[str]:
    """Other forms of an English word, some of them no words: those match nothing."""
    if len(word) < 4 or not word.isalpha():
        return []
    stem = word
    for ending, least in (("ing", 6), ("ies", 5), ("ed", 5), ("es", 5), ("s", 4), ("e", 4), ("y", 4)):
        if word.endswith(ending) and not word.endswith("ss") and len(word) >= least:
            stem = word.removesuffix(ending)
            break
    single = stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem
    return [start + end for start in {stem, single} for end in ("", "e", "s", "es", "ed", "ing", "y", "ies")]


def choose(tools: Mapping[str, Tool], task: str, shown: int) -> dict[str, Tool]:
    """What a run begins with: all tools of ours, and of the outside ones those that fit the task.

    Args:
        tools: everything that is allowed, by name.
        task: the task's text.
        shown: the most MCP tools that are offered at once.

    Returns:
        The offer, in the order of `tools`; with more MCP tools than `shown`, `find_tools` stands at its end and adds to
        this very dictionary.
    """
    many = {name: tool for name, tool in tools.items() if tool.effect == "mcp"}
    if len(many) <= shown:
        return dict(tools)
    index = Index(many)
    chosen = set(list(dict.fromkeys([*index.best(task, shown), *_in_turn(many)]))[:shown])
    offer = {name: tool for name, tool in tools.items() if name not in many or name in chosen}
    finder = find_tools(many, index, offer)
    offer[finder.name] = finder
    return offer


def _in_turn(tools: Mapping[str, Tool]) -> list[str]:
    """The tools' names, one of each server after the other: they fill the places that no word decided."""
    turns: Counter[str] = Counter()
    order: list[tuple[int, str]] = []
    for name, tool in tools.items():
        order.append((turns[tool.origin], name))
        turns[tool.origin] += 1
    return [name for _, name in sorted(order, key=lambda one: one[0])]


def find_tools(many: Mapping[str, Tool], index: Index, offer: dict[str, Tool]) -> Tool:
    """The tool that searches the others and adds what it finds to the offer."""

    async def run(context: ToolContext, /, query: str) -> str:
        found = index.best(query, FOUND)
        new = [name for name in found if name not in offer]
        offer.update({name: many[name] for name in new})
        if not found:
            return f"None of {len(many)} tools has these words. Try others: what it does, and whose service it is."
        return "You can call these now:\n" + "\n".join(_told(many[name]) for name in found)

    parameters: Json = {
        "type": "object",
        "properties": {"query": {"type": "string", "maxLength": 200, "description": "what the tool should do"}},
        "required": ["query"],
        "additionalProperties": False,
    }
    servers = ", ".join(sorted({tool.name.partition("__")[0] for tool in many.values()}))
    description = f"Find more tools: {len(many)} are there, of {servers}. What is found can be called afterwards."
    return Tool("find_tools", description[:600], parameters, run, "read", False, "agent.selection", outside=True)


def _told(tool: Tool) -> str:
    function: dict[str, Any] = tool.schema["function"]
    return json.dumps({key: function[key] for key in ("name", "description", "parameters")}, ensure_ascii=False)
