"""Find the title and the abstract in a longer document: plain text, Markdown, or what was read from a PDF.

LaTeX has its own file (latex.py), since its markup says where things are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import InputError

WHOLE = 450
"""A document of at most so many words, without headings, is taken to be the abstract itself."""
LONGEST = 700
"""No abstract has more words: beyond it, the end was not found."""
SHORTEST = 5
"""A heading with fewer words under it is a line of a table of contents."""
INSTEAD = "Give a file that holds only the abstract, paste the abstract as text, or give an arXiv id."

_ABSTRACT = re.compile(
    r"^[ \t]*(?P<open>#{1,6}[ \t]*[*_]{0,3}|[*_]{2,3})?(?:\d+\.?[ \t]+)?(?P<word>A[ ]?B[ ]?S[ ]?T[ ]?R[ ]?A[ ]?C[ ]?T)"
    r"(?P<after>[ \t]*[:.\u2014\u2013-]?[*_]{0,3}[:.\u2014\u2013-]?[ \t]*)(?P<rest>.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_SECTION = re.compile(
    r"""^[ \t]*(?:
        [#*_ ]*(?:(?:\d{1,2}|[IVX]{1,4})[.)]?\s+)?[*_]*
            (?:introduction|i\ n\ t\ r\ o\ d\ u\ c\ t\ i\ o\ n)[*_]*[.:]?[*_]*[ \t]*$
      | [#*_ ]*(?-i:Key[ ]?[Ww]ords|KEY[ ]?WORDS)(?:[*_]*[ \t]*[:.\u2014\u2013-]|[*_]*[ \t]*$|[ \t]+(?-i:[A-Z]))
      | [#*_ ]*(?:index[ ]terms|ccs[ ]concepts|general[ ]terms|acm[ ]reference[ ]format|categories[ ]and[ ]subject)\b
      | (?-i:(?:1|I)[.)]?[ \t]+[A-Z][^.]{2,60}$)
      | (?-i:[A-Z][A-Z \t&-]{5,50}$)
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_HEADING = re.compile(r"^(?:#{1,6}[ \t]+\S.*|\S.*\n(?:={3,}|-{3,})[ \t]*)$", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FURNITURE = re.compile(r"^[ \t]*(?:\d{1,4}|arXiv:\d{4}\.\d{4,5}.*)[ \t]*$", re.MULTILINE)
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\u00ad": ""}
)


@dataclass(frozen=True, slots=True)
class Found:
    """The abstract as one paragraph, and the title, which may be empty."""

    title: str
    abstract: str


def from_text(text: str, source: str) -> Found:
    """The abstract of a plain text: under its heading, or the whole of a short text without one.

    Args:
        text: the document, with `\\n` line ends.
        source: its name, for the error.

    Raises:
        InputError: a long text without an abstract that can be found.
    """
    text = join_hyphens(text, default="-")
    found = _under_heading(text, source)
    if found:
        return Found(_first_lines(text[: found[0]]), found[1])
    title, body = _title_apart(text)
    return Found(title, _whole(body, text, source))


def from_markdown(text: str, source: str) -> Found:
    """The abstract of a Markdown document: of its front matter, under its heading, or the whole of a short one.

    Raises:
        InputError: as for `from_text`; front matter that is not YAML.
    """
    title, abstract, text = _front_matter(text, source)
    headings = [
        match for match in _HEADING.finditer(text) if not re.fullmatch(r"[#*_\s]*abstract[#*_\s.:]*", match[0], re.I)
    ]
    first = headings[0] if headings else None
    title = title or (_plain(first[0].split("\n")[0]) if first else "")
    if abstract:
        return Found(title, paragraph(abstract))
    found = _under_heading(text, source)
    if found:
        return Found(title or _first_lines(text[: found[0]]), paragraph(_unmarked(found[1])))
    if first and len(headings) == 1 and not text[: first.start()].strip():
        return Found(title, _whole(_unmarked(text[first.end() :]), text, source))
    return Found(title, _whole("" if headings else _unmarked(text), text, source))


def from_pdf_text(text: str, source: str, title: str = "") -> Found:
    """The abstract in the text of a PDF's first pages, in reading order: columns one after the other.

    Args:
        text: the text, one printed line a line.
        source: the file's name, for the error.
        title: what the file's metadata say.

    Raises:
        InputError: as for `from_text`.
    """
    text = _FURNITURE.sub("", text.translate(_LIGATURES))
    text = join_hyphens(text, default="")
    found = _under_heading(text, source)
    if found:
        return Found(title or _first_lines(text[: found[0]], most=1), found[1])
    return Found(title, _whole(text, text, source))


def paragraph(text: str) -> str:
    """The text as one paragraph, with single spaces."""
    return " ".join(text.split())


def join_hyphens(text: str, default: str) -> str:
    """Join the words that were broken at line ends.

    The rest of the document decides: a word that occurs elsewhere unbroken, or with its hyphen, is written so.

    Args:
        text: the document.
        default: what stands between the two parts where nothing decides: a hyphen, or nothing.
    """
    known = set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower()))

    def join(match: re.Match[str]) -> str:
        left, right = match[1], match[2]
        whole, compound = (left + right).lower(), f"{left}-{right}".lower()
        if not right[0].islower() or not left[-1].isalpha() or "-" in left or compound in known:
            return f"{left}-{right}"
        return left + ("" if whole in known else default) + right

    return re.sub(r"([\w-]*\w)-[ \t]*\n[ \t]*(\w+)", join, text)


def _under_heading(text: str, source: str) -> tuple[int, str] | None:
    """Where the abstract's heading begins, and the paragraph under it; None without a heading."""
    found = list(_ABSTRACT.finditer(text))
    matches = [match for match in found if _is_heading(match)] or [match for match in found if _runs_in(match, text)]
    for match in matches:
        body = _until_next(text[match.start("rest") :], match["open"] or "")
        if len(body.split()) > LONGEST:
            raise InputError(f"the end of the abstract in {source} was not found within {LONGEST} words", INSTEAD)
        if len(body.split()) >= SHORTEST:
            return match.start(), body
    if matches:
        raise InputError(f"{source} has an Abstract heading and no text under it", INSTEAD)
    return None


def _is_heading(match: re.Match[str]) -> bool:
    """Whether the word abstract stands as a heading: alone, bold, or with a mark after it."""
    after, rest = match["after"], match["rest"]
    if not rest.strip() or (match["open"] or "").startswith(("*", "_")):
        return True
    if (match["open"] or "").startswith("#"):
        return False
    return any(mark in after for mark in ":.\u2014\u2013") or ("-" in after and after.endswith(" "))


def _runs_in(match: re.Match[str], text: str) -> bool:
    """Whether the abstract goes on right after the word, as in `ABSTRACT We study`; not in a title at the top."""
    word, after, rest = match["word"], match["after"], match["rest"]
    if (match["open"] or "").startswith("#") or not rest:
        return False
    run_in = word[0].isupper() and after.strip(" \t") == "" and after != "" and rest[0].isupper()
    return run_in and len(rest) >= 40 and bool(text[: match.start()].strip())


def _until_next(body: str, opening: str) -> str:
    ends = [match.start() for match in _SECTION.finditer(body)]
    patterns = [r"^\S.*\n(?:={3,}|-{3,})[ \t]*$"]
    if opening.startswith("#"):
        patterns.append(rf"^#{{1,{opening.count('#')}}}[ \t]+\S")
    elif opening:
        patterns.append(r"^[*_]{2,3}[^*_\n]+[*_]{2,3}[ \t]*$")
    for pattern in patterns:
        ends += [match.start() for match in re.finditer(pattern, body, re.MULTILINE)]
    body = _first_paragraphs(body[: min(ends, default=len(body))])
    # deeper headings are the parts of a structured abstract: "### Methods" becomes "Methods:"
    return paragraph(re.sub(r"^#+[ \t]+(.*?)[:.]?[ \t]*$", r"\1:", body, flags=re.MULTILINE))


def _first_paragraphs(body: str) -> str:
    """All of a body of an abstract's length; of a longer one, what stands before its first break past 50 words."""
    if len(body.split()) <= LONGEST:
        return body
    kept = ""
    for part in re.split(r"\n[ \t]*\n", body):
        kept += f"\n\n{part}"
        if len(kept.split()) >= 50:
            break
    return kept


def _whole(body: str, text: str, source: str) -> str:
    words = len(text.split())
    if not body.strip() or words > WHOLE:
        raise InputError(
            f"no abstract was found in {source} ({words} words): I looked for a heading `Abstract`, and a text without "
            f"headings of at most {WHOLE} words",
            INSTEAD,
        )
    return paragraph(body)


def _title_apart(text: str) -> tuple[str, str]:
    """A first paragraph of one short line without a full stop is the title of what follows."""
    head, gap, body = text.strip().partition("\n\n")
    if gap and "\n" not in head and len(head.split()) <= 25 and head.rstrip()[-1] not in ".!;:" and body.strip():
        return paragraph(head), body
    return "", text


def _first_lines(before: str, most: int = 3) -> str:
    """The title, as the first paragraph of what stands before the abstract; empty if that is no title."""
    lines = re.split(r"\n[ \t]*\n", before.strip())[0].splitlines()[:most]
    title = paragraph(" ".join(lines))
    return title if len(title.split()) <= 30 else ""


def _front_matter(text: str, source: str) -> tuple[str, str, str]:
    """Title and abstract of the YAML at the top, and the text without it."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return "", "", text
    import yaml

    try:
        fields = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise InputError(f"the front matter of {source} is not YAML: {paragraph(str(error))}") from None
    fields = fields if isinstance(fields, dict) else {}
    title, abstract = (fields.get(key) for key in ("title", "abstract"))
    return (
        paragraph(title) if isinstance(title, str) else "",
        abstract if isinstance(abstract, str) else "",
        text[match.end() :],
    )


def _plain(heading: str) -> str:
    return paragraph(_unmarked(heading.strip().strip("#")))


def _unmarked(text: str) -> str:
    """Markdown without emphasis, links and comments; the words stay."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text, flags=re.DOTALL)
    text = re.sub(r"(?<![\w*])([*_])(?=[^\s*_])(.+?)(?<=[^\s*_])\1(?![\w*])", r"\2", text, flags=re.DOTALL)
    return re.sub(r"`([^`]+)`", r"\1", text)
