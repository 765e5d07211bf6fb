"""The title and the abstract of a LaTeX document, with simple TeX undone: `$4\\times$` is 4x, `\\textit{X}` is X."""

from __future__ import annotations

import re

from agent.errors import InputError
from skills.annotate.extract import INSTEAD, WHOLE, Found, paragraph

TIMES = "\N{MULTIPLICATION SIGN}"
_BRACES = r"\{((?:[^{}\\]|\\.|\{(?:[^{}\\]|\\.|\{(?:[^{}\\]|\\.|\{[^{}]*\})*\})*\})*)\}"
"""A group with up to three more inside."""
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*\n?[ \t]*")
_TITLE = re.compile(r"\\title\s*(?:\[[^\]]*\])?\s*" + _BRACES, re.DOTALL)
_ABSTRACT = (
    re.compile(r"\\begin\s*\{abstract\*?\}(?:\s*\[[^\]]*\])?(.*?)\\end\s*\{abstract\*?\}", re.DOTALL),
    re.compile(r"\\abstract\s*" + _BRACES, re.DOTALL),
    re.compile(
        r"\\(?:section|chapter)\*?\s*\{\s*abstract\s*\}(.*?)(?=\\(?:section|chapter)\b|\\end\{document\})",
        re.DOTALL | re.I,
    ),
)
_MACRO = re.compile(
    r"\\(?:(?:re|provide)?newcommand\*?\s*\{?\s*\\(?P<new>[A-Za-z]+)\s*\}?|def\s*\\(?P<def>[A-Za-z]+))\s*(?P<args>\[\d\]|#\d)?\s*"
    + _BRACES,
    re.DOTALL,
)
_DROPPED = re.compile(
    r"~?\\(?:cite|ref|label|footnote|thanks|eqref|autoref|cref|Cref|vspace|hspace|keywords)[a-z]*\*?\s*(?:\[[^\]]*\])*\s*"
    + _BRACES
)
_BARE = re.compile(
    r"\\(?:texttt|textsf|textrm|mbox|hbox|text|mathrm|mathcal|mathbb|mathbf|mathit|mathsf|operatorname)\s*(?=\{)"
)


def from_latex(text: str, source: str) -> Found:
    """The title and the abstract of a LaTeX document, or a fragment that is an abstract.

    Args:
        text: the document.
        source: its name, for the error.

    Raises:
        InputError: no abstract, an empty one, or one that stands in another file.
    """
    text = _COMMENT.sub(r"\1", text)
    macros = _macros(text)
    match = _TITLE.search(text)
    title = plain(re.sub(r"\\\\(\[[^\]]*\])?", " ", match[1]), macros) if match else ""
    for pattern in _ABSTRACT:
        if found := pattern.search(text):
            return Found(title, _abstract(found[1], macros, source))
    if r"\begin{document}" not in text and r"\section" not in text and len(text.split()) <= WHOLE:
        return Found(title, _abstract(_TITLE.sub("", text), macros, source))
    raise InputError(
        f"no abstract was found in {source}: I looked for \\begin{{abstract}}, \\abstract{{}} and a section Abstract",
        INSTEAD,
    )


def plain(tex: str, macros: dict[str, str] | None = None) -> str:
    """TeX as plain text in one paragraph. Commands that are not known leave only their arguments."""
    from pylatexenc.latex2text import LatexNodes2Text

    for _ in range(5):  # macros may use macros; five levels end a circle
        for name, body in (macros or {}).items():
            literal = body.replace("\\", r"\\")
            tex = re.sub(rf"\\{name}(?![A-Za-z])(?:\{{\}}|\\xspace)?", literal, tex)
    tex = re.sub(r"\\xspace(?![A-Za-z])", "", tex)
    tex = _DROPPED.sub("", tex)
    tex = re.sub(r"\\href\s*" + _BRACES + r"\s*" + _BRACES, r"\2", tex)
    tex = re.sub(r"\\url\s*" + _BRACES, r"\1", tex)
    tex = _BARE.sub("", tex)
    try:
        text = LatexNodes2Text(math_mode="text").latex_to_text(tex)
    except Exception:  # the parser raises whatever its tables hit on odd input; the source is still readable
        text = tex
    text = re.sub(rf"(?<=\d)\s*{TIMES}\s*(?=\d)", TIMES, str(text))  # between two numbers the sign stays
    text = re.sub(rf"(?<=\d)\s*{TIMES}(?!\d)", "x", text)
    return paragraph(re.sub(r"\s+([,.;:)])", r"\1", paragraph(text)))


def _abstract(body: str, macros: dict[str, str], source: str) -> str:
    elsewhere = re.fullmatch(r"\s*\\(?:input|include)\s*\{([^}]+)\}\s*", body)
    if elsewhere:
        raise InputError(f"the abstract of {source} stands in another file, {elsewhere[1]}", "Give that file instead.")
    abstract = plain(body, macros)
    if not abstract:
        raise InputError(f"the abstract of {source} is empty", INSTEAD)
    return abstract


def _macros(text: str) -> dict[str, str]:
    """The document's own commands without arguments, such as a system's name."""
    return {m["new"] or m["def"]: m[m.lastindex or 0] for m in _MACRO.finditer(text) if not m["args"]}
