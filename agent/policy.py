"""A person's rules about calls: allow, ask or deny, by tool, path, host, command. Deny beats ask beats allow.

    [[policy.rules]]
    action = "allow"
    command = "git status*"

A rule decides where everything that it names fits. `*` in a path stops at a slash, `**` does not; a path without a
slash is a file's name in any folder. A deny or ask for a command also looks into its parts (`cd x; git push`); an
allow holds only for one plain command, so that nothing rides along. Where no rule of the person's fits, BUILT_IN is
asked. agent/consent.py is the gate; this file only decides.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from agent import shell_words
from agent.settings import Rule

Action = Literal["allow", "ask", "deny", ""]
_SEVERITY = ("deny", "ask", "allow")
_KEYS = ("tool", "path", "host", "command")

_CREDENTIALS = (
    ".ssh/ .aws/ .gnupg .netrc .git-credentials .kube/ .docker/config .config/apprentice .config/gh .npmrc .pypirc "
    "/etc/shadow /environ id_rsa id_ed25519 id_ecdsa"
)
_FOOTHOLDS = "authorized_keys .bashrc .bash_profile .profile .zshrc crontab systemctl systemd-run .git/hooks hooksPath"
_UNPACKING = "extractall unpack_archive --absolute-names --to-command"
BUILT_IN = tuple(
    [Rule(action="ask", command=f"*{word}*") for word in f"{_CREDENTIALS} {_FOOTHOLDS} {_UNPACKING}".split()]
    + [Rule(action="ask", command=command) for command in ("sudo *", "su *", "tar *P*")]
)
"""Commands that are asked about even where the shell is allowed: credentials, what starts by itself later, and archives
that may write anywhere."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is about to happen. `effect` is `read`, `write`, `shell`, `net:HOST` or `mcp:SERVER`; the rest is empty
    where it does not apply. `path` is as the model wrote it."""

    effect: str
    tool: str = ""
    path: str = ""
    command: str = ""

    @property
    def host(self) -> str:
        return self.effect.removeprefix("net:") if self.effect.startswith("net:") else ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say, and the rule that decided; empty if none fits."""

    action: Action = ""
    rule: Rule | None = None
    built_in: bool = False

    @property
    def reason(self) -> str:
        if self.rule is None:
            return "no rule fits"
        return f"the {'built-in' if self.built_in else 'policy'} rule {spelled(self.rule)}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The person's rules and the trusted or untrusted project's, which only deny or ask.

    Args:
        given: in any order: the strictest that fits decides.
        root: the workspace, from which paths are told.
    """

    given: Sequence[Rule] = ()
    root: Path | None = None

    def decide(self, request: Request) -> Verdict:
        """The verdict on one request."""
        for built_in, rules in ((False, self.given), (True, BUILT_IN)):
            fitting = [rule for rule in rules if self._fits(rule, request)]
            if fitting:
                strictest = min(fitting, key=lambda rule: _SEVERITY.index(rule.action))
                return Verdict(strictest.action, strictest, built_in)
        return Verdict()

    def on_file(self, path: str) -> Action:
        """What the rules that name a path and nothing else say about a file that a tool may come across."""
        rules = [rule for rule in self.given if rule.path and not (rule.tool or rule.host or rule.command)]
        return Rules(rules, self.root).decide(Request("read", path=path)).action if rules else ""

    def _fits(self, rule: Rule, request: Request) -> bool:
        strict = rule.action != "allow"
        if rule.tool and not fnmatch.fnmatchcase(request.tool, rule.tool):
            return False
        if rule.host and not (request.host and fnmatch.fnmatchcase(request.host.lower(), rule.host.lower())):
            return False
        if rule.path and not (request.path and self._path_fits(rule.path, request.path, strict)):
            return False
        return not rule.command or bool(request.command and _command_fits(rule.command, request.command, strict))

    def _path_fits(self, pattern: str, path: str, strict: bool) -> bool:
        if self.root is not None:
            path = os.path.relpath(os.path.join(self.root, path), self.root)
        path = os.path.normpath(path)
        if strict:  # some file systems ignore case, and then so must a no
            pattern, path = pattern.casefold(), path.casefold()
        compiled = _glob(pattern.removeprefix("./"))
        if "/" not in pattern:
            return any(compiled.fullmatch(part) for part in (path.split("/") if strict else [os.path.basename(path)]))
        above = [path, *(str(folder) for folder in Path(path).parents)] if strict else [path]
        return any(compiled.fullmatch(place) for place in above)


def spelled(rule: Rule) -> str:
    """A rule on one line, as a person recognises it: `deny path = "private/**"`."""
    named = ", ".join(f'{key} = "{getattr(rule, key)}"' for key in _KEYS if getattr(rule, key))
    return f"{rule.action} {named}" + (", also after_outside" if rule.after_outside else "")


def _command_fits(pattern: str, command: str, strict: bool) -> bool:
    if not strict:
        return shell_words.is_simple(command) and fnmatch.fnmatchcase(command.strip(), pattern)
    spellings = [command, shell_words.plain(command), *shell_words.parts(command)]
    return any(fnmatch.fnmatchcase(spelling.strip(), pattern) for spelling in spellings)


@lru_cache(512)
def _glob(pattern: str) -> re.Pattern[str]:
    """`**/` is any folders or none, `**` anything, `*` and `?` stay within one folder."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    spelled_out = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(spelled_out.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
