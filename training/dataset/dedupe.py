"""Near duplicates: MinHash finds the pairs that may be alike, the exact share of common shingles decides.

Broder, "On the resemblance and containment of documents" (1997); MinHash and its LSH are datasketch's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.errors import ConfigError

SHINGLE = 5
"""Words of a shingle."""
NEAR = 0.7
"""Two texts are near duplicates from this Jaccard similarity of their shingles. In 2,005 abstracts of papers no two
different ones reach 0.1, and versions of one paper's abstract lie well above."""
SEARCHED = 0.5
"""MinHash looks for pairs from here on, so that its error (128 permutations: about 0.05) hides none above NEAR."""
PERMUTATIONS = 128


def shingles(text: str) -> frozenset[str]:
    """Every five words in a row, in small letters and without punctuation; a shorter text is one shingle."""
    words = re.findall(r"\w+", text.casefold())
    return frozenset(" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1)))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """The Jaccard similarity of two sets of shingles, 0 to 1."""
    return len(one & other) / len(one | other)


class Index:
    """Texts by key, searched for near duplicates.

    Raises:
        ConfigError: datasketch is not installed.
    """

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise ConfigError("datasketch is not installed", "Run scripts/setup train.") from None
        self._new = MinHash
        self._lsh = MinHashLSH(threshold=SEARCHED, num_perm=PERMUTATIONS)
        self._shingles: dict[str, frozenset[str]] = {}
        for key, text in (texts or {}).items():
            self.add(key, text)

    def add(self, key: str, text: str) -> None:
        """Put a text in; a key that is there already keeps its text."""
        if key not in self._shingles:
            self._shingles[key] = shingles(text)
            self._lsh.insert(key, self._sketch(self._shingles[key]))

    def near(self, text: str) -> Iterator[tuple[str, float]]:
        """The keys of texts that are near duplicates of this one, with their similarity; in order of the keys."""
        own = shingles(text)
        for key in sorted(self._lsh.query(self._sketch(own))):
            share = similarity(own, self._shingles[key])
            if share >= NEAR:
                yield key, share

    def _sketch(self, found: Iterable[str]) -> Any:
        sketch = self._new(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([shingle.encode() for shingle in sorted(found)])
        return sketch


def clusters(texts: Mapping[str, str]) -> dict[str, str]:
    """Group texts that are near duplicates of each other, over any number of steps.

    Args:
        texts: by key.

    Returns:
        For each key its group: the smallest key in it. The order of the texts does not matter.
    """
    group = {key: key for key in texts}

    def root(key: str) -> str:
        while group[key] != key:
            group[key] = group[group[key]]
            key = group[key]
        return key

    index = Index()
    for key in sorted(texts):
        for other, _ in index.near(texts[key]):
            first, second = sorted((root(key), root(other)))
            group[second] = first
        index.add(key, texts[key])
    return {key: root(key) for key in texts}
