"""What a model has to beat: examples in the base's prompt, sentences copied in order, the absent text everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.errors import InputError
from evals.annotate import Case, RowResult, load_cases, scored
from skills.annotate.explain import split_sentences
from skills.annotate.framework import Framework
from skills.annotate.validate import check

EXAMPLES = Path(__file__).parent / "cases" / "examples.jsonl"
"""Three abstracts of our own making, of the three fields, which are in no suite."""
IN_ORDER = "sentences in order"
ALL_ABSENT = "all absent"


def load_examples(path: Path, cases: Sequence[Case], framework: Framework) -> list[Case]:
    """The examples of the few-shot baseline.

    Raises:
        InputError: the file is no case file, or one of its abstracts is in the suite.
    """
    examples = load_cases(path, framework)
    suite = {case.document: case.id for case in cases}
    both = next((case for case in examples if case.document in suite), None)
    if both:
        raise InputError(
            f"the example {both.id!r} of {path} is the suite's case {suite[both.document]!r}",
            "A model must not be shown what it is asked: take it out of one of them.",
        )
    return examples


def without_model(cases: Sequence[Case], framework: Framework) -> dict[str, list[RowResult]]:
    """The rows of the two baselines that ask no model, by their names."""
    absent = dict.fromkeys(framework.keys, framework.absent)
    return {
        IN_ORDER: [_row(case, sentences_in_order(case.abstract, framework), framework) for case in cases],
        ALL_ABSENT: [_row(case, absent, framework) for case in cases],
    }


def sentences_in_order(abstract: str, framework: Framework) -> dict[str, str]:
    """The abstract's k-th sentence as the k-th move; the absent text when they run out."""
    sentences = split_sentences(abstract)
    return {
        key: sentences[place] if place < len(sentences) else framework.absent
        for place, key in enumerate(framework.keys)
    }


def _row(case: Case, annotation: Mapping[str, str], framework: Framework) -> RowResult:
    return scored(case, annotation, check(annotation, case.abstract, framework), framework)
