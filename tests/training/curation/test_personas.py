"""The five personas: each rule objects to what it is there for, and to nothing in an annotation made by hand."""

from __future__ import annotations

import pytest

from skills.annotate.framework import load
from tests.training.annotations import ABSENT, BEAMS_MOVES, beams, reviewers
from training.curation import personas
from training.curation.personas import PERSONAS, Rule
from training.curation.subject import Subject, cue_count

SECTIONS = load("eight-sections")


@pytest.mark.parametrize("subject", [beams(), reviewers()], ids=["beams", "reviewers"])
def test_every_persona_passes_an_annotation_made_by_hand(subject: Subject) -> None:
    assert {persona.name: persona.objections(subject) for persona in PERSONAS} == {p.name: [] for p in PERSONAS}


def test_there_are_five_personas_and_each_has_rules_of_its_own() -> None:
    rules = [rule for persona in PERSONAS for rule in persona.rules]
    assert [persona.name for persona in PERSONAS] == [
        "methodologist",
        "statistician",
        "domain reader",
        "editor",
        "sceptic",
    ]
    assert len(set(rules)) == len(rules)
    assert all(persona.rubric and persona.rules for persona in PERSONAS)


@pytest.mark.parametrize(
    ("rule", "subject", "said"),
    [
        (
            personas.core_is_in_order,
            reviewers(
                claim="Reviewers showed 38% less time and significantly higher error on generated tests.",
                evidence="The authors present a study of generated tests, and the paper describes reviewers.",
            ),
            "claim reads like evidence, and evidence like claim",
        ),
        (
            personas.method_differs,
            beams(method="A decoder for beam search over small translation models is introduced as StripeBeam."),
            "method says the claim again",
        ),
        (
            personas.draws_on_the_whole,
            beams(
                **{key: ABSENT for key in BEAMS_MOVES if key not in ("claim", "method", "limitation")},
                limitation="The decoder copies only the rows that change, and stores caches of beams in one buffer.",
            ),
            "all moves come from 2 of 5 sentences",
        ),
        (
            personas.numbers_in_place,
            reviewers(
                evidence="The eye movements of 38 professional reviewers were logged while they judged requests."
            ),
            "evidence: the abstract does not say 38 of",
        ),
        (
            personas.numbers_in_place,
            reviewers(scope="The study covers 99 professional reviewers and pull requests with generated tests."),
            "scope: 99 is not a number of the abstract",
        ),
        (
            personas.figures_are_kept,
            beams(evidence="StripeBeam is faster than the standard decoder and gives identical output."),
            "",
        ),
        (
            personas.evidence_after_the_start,
            beams(evidence="Beam search over small translation models spends time moving attention caches."),
            "evidence comes from the abstract's first sentence",
        ),
        (
            personas.words_are_the_abstracts,
            beams(
                claim="Researchers built fancy gadgets for hungry elephants.",
                scope="Many farmers bought cheap umbrellas during stormy winters.",
                evidence="Several musicians praised loud concerts yesterday evening in Vienna.",
            ),
            "claim, evidence, scope: words that are not the abstract's",
        ),
        (
            personas.words_belong_together,
            beams(scope="Many farmers bought cheap umbrellas during stormy winters in the mountains."),
            "scope: no sentence of the abstract says this",
        ),
        (
            personas.content_fits_its_move,
            reviewers(
                implication="The eye movements were logged, then examined and analyzed using each pull request.",
                method="These findings suggest that future tools should show coverage, and may help.",
            ),
            "reads like",
        ),
        (personas.form_is_kept, beams(claim="Too short."), "claim has 2 words"),
        (personas.sentences_are_whole, beams(scope=BEAMS_MOVES["scope"].rstrip(".")), "scope is not a whole sentence"),
        (personas.sentences_are_whole, beams(scope="- " + BEAMS_MOVES["scope"]), "scope is not a whole sentence"),
        (
            personas.sentences_are_whole,
            beams(claim="The abstract says that the authors introduce StripeBeam, a decoder for beams."),
            "speaks of the abstract",
        ),
        (
            personas.phrases_once,
            beams(scope="It applies to four language pairs and it applies to four language pairs and models."),
            "scope says the same phrase twice",
        ),
        (
            personas.nobody_speaks,
            beams(
                claim="We introduce StripeBeam, a decoder.", limitation="We did not test models above 1B parameters."
            ),
            "claim, limitation speak as the authors do",
        ),
        (
            personas.limitation_is_theirs,
            reviewers(limitation="The approach may still struggle with larger teams of people elsewhere."),
            "no sentence of the abstract says it",
        ),
        (
            personas.limitation_is_theirs,
            reviewers(limitation="The eye movements of 46 professional reviewers were logged while they judged."),
            "names nothing that falls short",
        ),
        (
            personas.limitation_is_theirs,
            beams(limitation="Beam search over small translation models spends most of its time moving caches."),
            "where it falls short",
        ),
        (
            personas.stated_where_said,
            reviewers(
                implication="The eye movements were logged, then examined and analyzed using each pull request.",
                method="These findings suggest that future tools should show coverage, and may help.",
            ),
            "reads like",
        ),
        (
            personas.implication_comes_late,
            reviewers(implication="Developers increasingly accept tests that language models write."),
            "implication comes from the abstract's beginning",
        ),
        (
            personas.enough_is_stated,
            beams(**{key: ABSENT for key in BEAMS_MOVES if key not in ("claim", "method")}),
            "only 2 moves are stated",
        ),
    ],
)
def test_a_rule_objects_to_what_it_is_there_for(rule: Rule, subject: Subject, said: str) -> None:
    found = rule(subject)
    assert bool(found) == bool(said)
    assert said in found


def test_evidence_without_numbers_is_an_objection_where_the_abstract_measures() -> None:
    subject = reviewers(evidence="Reviewers fixated on generated tests for less time and missed more faults.")
    abstract = subject.abstract.replace("Reviewers fixated", "Results show that reviewers fixated significantly")
    measured = Subject(abstract, subject.annotation, subject.framework)
    assert personas.figures_are_kept(measured) == "the evidence leaves out every number"
    without = Subject(abstract, {**subject.annotation, "evidence": ABSENT}, subject.framework)
    assert personas.figures_are_kept(without) == "the abstract has results in numbers, and no evidence is given"


def test_the_older_sections_play_the_roles_of_the_eight_moves() -> None:
    moves = dict.fromkeys(SECTIONS.keys, ABSENT) | {
        "narrow_impact": "Review tools should show coverage.",
        "broad_impact": "Tools may help.",
        "topic": "Generated tests.",
    }
    subject = Subject(reviewers().abstract, moves, SECTIONS)
    assert set(subject.playing("implication")) == {"narrow_impact", "broad_impact"}
    assert subject.role("topic") == ""
    assert subject.asked("limitation")
    assert not subject.asked("novelty")


def test_a_cue_counts_once_however_often_it_stands_there() -> None:
    assert cue_count("Results show this; they show that, and SHOW more.", "evidence") == 2
    assert cue_count("Nothing here.", "scope") == 0


def test_an_abstract_of_one_piece_has_one_sentence() -> None:
    assert Subject("", {}, load("eight-moves")).sentences == [""]
