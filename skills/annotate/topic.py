"""From a topic to papers: the workspace's own, ranked by BM25, else arXiv."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ApprenticeError, ConsentDenied, InputError
from skills.annotate.papers import Paper, Reading, read_folder

if TYPE_CHECKING:
    from agent.session import Session

LIMIT = 5
"""The most papers that one topic is answered with."""
MOST_FILES = 1000
"""The most files of the workspace that are looked into."""
COVERAGE = 0.5
"""A paper is about a topic if it holds more than this share of the topic's terms."""
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_GENERIC = (
    "a an and the of on in for to with from by at as is are how what why which about into between using via "
    "annotate survey surveys overview review reviews recent new latest paper papers technique techniques method "
    "methods approach approaches research study studies work works topic literature article articles find me "
    "please some state art"
)


def terms(text: str) -> list[str]:
    """The words of a text for comparison: lower-case, plurals as singulars, compounds also in their parts."""
    words = []
    for word in _WORD.findall(text.lower()):
        words += [word, *word.split("-")] if "-" in word else [word]
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]


def rank(topic: str, papers: Sequence[Paper], limit: int = LIMIT) -> list[Paper]:
    """The papers about a topic, best first.

    Okapi BM25 with k1 = 1.2 and b = 0.75 (Robertson and Zaragoza, 2009) over title and abstract. A paper counts only
    if it holds more than COVERAGE of the topic's terms: one common word in common is not a subject in common.
    """
    wanted = dict.fromkeys(terms(topic))
    generic = set(terms(_GENERIC))
    query = [term for term in wanted if term not in generic] or list(wanted)
    bags = [Counter(terms(f"{paper.title} {paper.abstract}")) for paper in papers]
    if not bags or not query:
        return []
    mean = sum(bag.total() for bag in bags) / len(bags)
    found = {term: sum(term in bag for bag in bags) for term in query}
    weight = {term: math.log(1 + (len(bags) - n + 0.5) / (n + 0.5)) for term, n in found.items()}

    def score(bag: Counter[str]) -> float:
        if sum(term in bag for term in query) <= COVERAGE * len(query):
            return 0.0
        length = 1.2 * (0.25 + 0.75 * bag.total() / mean)
        return sum(weight[term] * bag[term] * 2.2 / (bag[term] + length) for term in query)

    scores = [score(bag) for bag in bags]
    order = sorted((index for index in range(len(bags)) if scores[index] > 0), key=lambda index: -scores[index])
    return [papers[index] for index in order[:limit]]


def local(topic: str, root: Path, leave_out: Sequence[Path] = ()) -> Reading:
    """The workspace's papers about a topic, best first; none if there are none."""
    try:
        reading = read_folder(root, leave_out=leave_out, name=".", most=MOST_FILES)
    except InputError:
        return Reading()
    return Reading(rank(topic, reading.papers), reading.skipped)


async def from_arxiv(topic: str, session: Session) -> list[Paper]:
    """What arXiv finds for a topic; the person is asked before anything is sent.

    Raises:
        InputError: nothing was found, arXiv is not reachable, or nobody allowed it.
    """
    from tools.arxiv import search

    instead = "Give a file, a folder, an arXiv id, or paste an abstract."
    try:
        found = await search(session.tool_context, topic, LIMIT)
    except ConsentDenied as error:
        asked = f"no paper in {session.workspace.root} is about {topic!r}, and arXiv was not searched: not allowed"
        raise InputError(asked, f"{instead} {error.hint}".strip()) from None
    except ApprenticeError as error:
        raise InputError(
            f"no paper in {session.workspace.root} is about {topic!r}, and arXiv was not searched: {error.message}",
            f"{instead} {error.hint}".strip(),
        ) from None
    papers = [Paper(f"arXiv:{entry.id}", entry.title, entry.abstract, entry.id) for entry in found]
    if not papers:
        raise InputError(f"neither {session.workspace.root} nor arXiv has a paper about {topic!r}", instead)
    return papers
