"""Where the abstract stands in a longer document."""

from __future__ import annotations

import pytest

from agent.errors import InputError
from skills.annotate.extract import from_markdown, from_pdf_text, from_text, join_hyphens
from skills.annotate.latex import from_latex, plain

ABSTRACT = "We measure how trees cool streets. Watered trees cool twice as much, by 3.4 degrees."
BODY = "The introduction of trees is old. " * 150
TITLE = "Seven Years of Street Trees"


def document(heading: str, end: str = "1 Introduction") -> str:
    return f"{TITLE}\n\nJane Doe, Lyon\n\n{heading}{ABSTRACT}\n\n{end}\n{BODY}\n"


@pytest.mark.parametrize(
    "heading",
    [
        "Abstract\n",
        "ABSTRACT\n\n",
        "A B S T R A C T\n",
        "a b s t r a c t\n",
        "Abstract. ",
        "Abstract: ",
        "Abstract\N{EM DASH}",
        "Abstract - ",
        "ABSTRACT ",
        "Abstract ",
        "**Abstract**\n",
    ],
)
def test_every_common_heading_of_a_plain_text_is_found(heading: str) -> None:
    found = from_text(document(heading), "paper.txt")
    assert (found.title, found.abstract) == (TITLE, ABSTRACT)


@pytest.mark.parametrize(
    "end",
    [
        "Introduction",
        "1. Introduction",
        "I. INTRODUCTION",
        "1 Why trees",
        "Keywords: trees, streets",
        "KEYWORDS",
        "Key words: trees",
        "Keywords Trees · Streets",
        "Index Terms\N{EM DASH}trees",
        "CCS Concepts: none",
        "RELATED WORK",
        "I N T R O D U C T I O N",
        "Why Trees\n=========",
    ],
)
def test_the_abstract_ends_at_the_next_heading(end: str) -> None:
    assert from_text(document("Abstract\n", end), "paper.txt").abstract == ABSTRACT


def test_a_wrapped_line_that_begins_with_introduction_or_keywords_does_not_end_it() -> None:
    text = "Abstract\nWe study the\nintroduction of trees and the\nkeywords that people use for them.\n\nKeywords: a"
    assert from_text(text, "x").abstract.endswith("keywords that people use for them.")


def test_a_short_text_without_headings_is_the_abstract_and_its_first_line_may_be_the_title() -> None:
    assert from_text(ABSTRACT, "x").abstract == ABSTRACT
    found = from_text(f"{TITLE}\n\n{ABSTRACT}\n", "x")
    assert (found.title, found.abstract) == (TITLE, ABSTRACT)


def test_a_markdown_heading_that_only_begins_with_abstract_is_another_heading() -> None:
    text = f"# Abstract Interpretation of Trees\n\n## Abstract\n\n{ABSTRACT}\n\n## 1 Introduction\n{BODY}"
    found = from_markdown(text, "x")
    assert (found.title, found.abstract) == ("Abstract Interpretation of Trees", ABSTRACT)


def test_a_sentence_about_abstract_interpretation_is_no_heading() -> None:
    text = "Abstract interpretation is a theory of sound approximation. We apply it to trees."
    assert from_text(text, "x").abstract == text


def test_a_title_that_begins_with_abstract_gives_way_to_the_heading() -> None:
    title = "Abstract Meaning Representation for Maps of Street Trees"
    text = f"Proceedings of Trees\n{title}\nJane Doe\nAbstract\n{ABSTRACT}\n1 Introduction\n{BODY}"
    assert from_pdf_text(text, "x.pdf", title).abstract == ABSTRACT


def test_a_table_of_contents_is_passed_over() -> None:
    text = f"Contents\nAbstract . . . . 3\n1 Introduction\n\nAbstract\n{ABSTRACT}\n\n1 Introduction\n{BODY}"
    assert from_text(text, "x").abstract == ABSTRACT


def test_a_long_text_without_an_abstract_says_what_was_looked_for_and_what_to_give() -> None:
    with pytest.raises(InputError, match=r"no abstract was found in notes\.txt \(900 words\)") as caught:
        from_text(BODY, "notes.txt")
    assert "paste the abstract" in caught.value.hint


def test_a_heading_with_nothing_under_it_is_said_so() -> None:
    with pytest.raises(InputError, match="an Abstract heading and no text under it"):
        from_text("Abstract\n\n1 Introduction\n" + BODY, "x")


def test_an_abstract_without_an_end_is_cut_at_a_paragraph_or_refused() -> None:
    first = "A sentence of five words. " * 12
    assert from_text(f"Abstract\n{first}\n\n{BODY}", "x").abstract == first.strip()
    with pytest.raises(InputError, match="the end of the abstract in x was not found"):
        from_text("Abstract\n" + BODY, "x")


@pytest.mark.parametrize("heading", ["## Abstract\n", "**Abstract**\n\n", "**Abstract.** ", "# ABSTRACT\n"])
def test_markdown_headings_and_bold_words_are_found(heading: str) -> None:
    abstract = "We *measure* [trees](http://x.y) with `grep`."
    text = f"# {TITLE}\n\n*Jane Doe*\n\n{heading}{abstract}\n\n## 1 Introduction\n{BODY}"
    found = from_markdown(text, "paper.md")
    assert (found.title, found.abstract) == (TITLE, "We measure trees with grep.")


def test_the_parts_of_a_structured_abstract_stay() -> None:
    text = f"# T\n\n## Abstract\n\n### Methods\nWe count.\n\n### Results\nTwo trees.\n\n## Introduction\n{BODY}"
    assert from_markdown(text, "x").abstract == "Methods: We count. Results: Two trees."


def test_front_matter_gives_the_title_and_the_abstract() -> None:
    found = from_markdown(f"---\ntitle: 'A: B'\nabstract: |\n  We measure\n  trees.\n---\n# Intro\n{BODY}", "x")
    assert (found.title, found.abstract) == ("A: B", "We measure trees.")
    assert from_markdown(f"---\ntitle: A\n---\n{ABSTRACT}", "x").title == "A"
    with pytest.raises(InputError, match="front matter of x is not YAML"):
        from_markdown("---\ntitle: [\n---\ntext", "x")


def test_a_short_markdown_with_one_heading_is_a_title_and_an_abstract() -> None:
    found = from_markdown(f"# {TITLE}\n\n{ABSTRACT}\n", "x")
    assert (found.title, found.abstract) == (TITLE, ABSTRACT)
    assert from_markdown(f"{TITLE}\n===\n\n{ABSTRACT}\n", "x").title == TITLE
    assert from_markdown("Just *one* sentence here.", "x").abstract == "Just one sentence here."


def test_a_markdown_of_several_headings_without_an_abstract_is_refused() -> None:
    with pytest.raises(InputError, match="no abstract was found in README"):
        from_markdown("# Project\n\nText.\n\n## Install\n\nMore.\n", "README.md")


def test_words_broken_at_line_ends_are_joined_by_what_the_rest_of_the_text_shows() -> None:
    text = "retrieval and multi-head. The re-\ntrieval of multi-\nhead state-of-\nthe-art GPT-\n4 un-\nknown"
    joined = "retrieval and multi-head. The retrieval of multi-head state-of-the-art GPT-4 "
    assert join_hyphens(text, default="") == joined + "unknown"
    assert join_hyphens(text, default="-") == joined + "un-known"


def test_the_text_of_a_two_column_pdf_loses_its_furniture() -> None:
    text = (
        "arXiv:2402.11651v2 [cs.CL] 3 Mar 2024\nSeven Years of Street Trees\nJane Doe\nAbstract\n"
        "We measure how e\N{LATIN SMALL LIGATURE FFI}-\n"
        "cient trees are.\n012\nThey cool.\n1 Introduction\nBody text."
    )
    found = from_pdf_text(text, "x.pdf")
    assert (found.title, found.abstract) == (TITLE, "We measure how efficient trees are. They cool.")
    assert from_pdf_text(text, "x.pdf", "From Metadata").title == "From Metadata"
    assert from_pdf_text("Only a short text.", "x.pdf").abstract == "Only a short text."


LATEX = r"""
\documentclass{article} % a comment
\newcommand{\sys}{Tree\textsc{Net}\xspace}
\def\gain{$4\times$}
\title[short]{Cooling by \sys:\\ a Study\thanks{Funded.}}
\begin{document}\maketitle
\begin{abstract}
  We present \sys{}, which is \gain\ faster (95\%~CI, $p < 10^{-3}$)~\cite{a,b}. % hidden
  % \textbf{hidden too}
  It uses \textit{deep} \texttt{code}, Erd\H{o}s--R\'enyi graphs of $n{=}5$ and $\alpha$-decay,
  over a $2\times 2$ grid\footnote{A note.}; see \href{http://x.y}{our page} and \url{http://a.b}.
\end{abstract}
\section{Introduction}
\end{document}
"""


def test_latex_is_undone_where_it_is_simple() -> None:
    found = from_latex(LATEX, "paper.tex")
    assert found.title == "Cooling by TreeNet: a Study"
    assert found.abstract == (
        "We present TreeNet, which is 4x faster (95% CI, p < 10^-3). It uses deep code, "
        "Erdős\N{EN DASH}Rényi graphs of n=5 and \N{GREEK SMALL LETTER ALPHA}-decay, "
        "over a 2\N{MULTIPLICATION SIGN}2 grid; see our page and http://a.b."
    )


@pytest.mark.parametrize(
    "text",
    [
        r"\documentclass{x}\abstract{We \emph{count {two} trees}.}\begin{document}\section{A}",
        "\\begin{document}\\section*{Abstract}\nWe count two trees.\n\\section{Introduction} No.\\end{document}",
        "We count two\n% hidden\ntrees.",
    ],
)
def test_other_ways_to_write_an_abstract_in_latex(text: str) -> None:
    assert from_latex(text, "x.tex").abstract == "We count two trees."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (r"\begin{document}\section{Introduction} Text.\end{document}", "no abstract was found in x.tex"),
        (r"\begin{abstract}\input{abs/main}\end{abstract}", "stands in another file, abs/main"),
        (r"\begin{abstract} % nothing" + "\n" + r"\end{abstract}", "the abstract of x.tex is empty"),
    ],
)
def test_latex_without_a_usable_abstract_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_latex(text, "x.tex")


def test_tex_that_does_not_parse_is_left_readable() -> None:
    assert plain(r"a \href{only one} b") != ""
    assert plain(r"\loop", {"loop": r"\loop x"}).count("x") <= 5
