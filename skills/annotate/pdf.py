"""The text of a PDF's first pages, through pypdf."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from agent.errors import InputError
from skills.annotate.extract import INSTEAD

PAGES = 5
"""Abstracts stand on the first pages; a thesis has a cover before them."""
FEWEST_LETTERS = 20
"""With fewer letters on its first pages, a PDF is a scan."""


def pdf_text(path: Path, name: str = "") -> tuple[str, str]:
    """The title of a PDF's metadata, and the text of its first pages, one printed line a line.

    Args:
        path: the file.
        name: how it is called in errors; empty for its path.

    Raises:
        InputError: it is encrypted, damaged, or holds pictures only.
    """
    import pypdf
    from pypdf.errors import DependencyError, FileNotDecryptedError

    name = name or str(path)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs every oddity of a file to standard error
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileNotDecryptedError
        text = "\n".join(page.extract_text() for page in reader.pages[:PAGES])
        title = _title(str(reader.metadata.title or "") if reader.metadata else "")
    except (FileNotDecryptedError, DependencyError):
        raise InputError(f"{name} is encrypted", "Save a copy without a password. " + INSTEAD) from None
    except Exception as error:  # a damaged PDF may raise anything inside the parser
        raise InputError(f"{name} is not a readable PDF: {error or type(error).__name__}", INSTEAD) from None
    if sum(letter.isalpha() for letter in text) < FEWEST_LETTERS:
        raise InputError(f"{name} is a PDF without text, probably a scan", "Run it through OCR (ocrmypdf). " + INSTEAD)
    return title, text


def _title(text: str) -> str:
    """A metadata title, unless a program filled it in: one word, a file name, `Microsoft Word - ...`."""
    text = " ".join(text.split())
    generated = re.match(r"(?i)microsoft word|untitled|.*\.(?:docx?|tex|dvi|pdf|indd)$", text)
    return "" if generated or len(text.split()) < 2 else text
