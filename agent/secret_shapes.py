"""What secrets look like: prefixes of tokens, headers, connection strings, and values assigned to secret names.

Each shape has triggers, plain texts of which one must occur before its pattern is tried. Tokens are looked for only in
long words. Both make clean text cheap: 2 KB take about 40 microseconds. No pattern matches across a line break.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

BOUNDARY = r"(?<![A-Za-z0-9_-])"


class Span(NamedTuple):
    """A secret in a text: `start` to `end`. Its match began at `context` (a header's name, a variable's)."""

    start: int
    end: int
    kind: str
    context: int


class Shape(NamedTuple):
    """One kind of secret. Of a pattern's groups, the one that took part is the secret; without groups, all of it."""

    kind: str
    triggers: tuple[str, ...]
    pattern: re.Pattern[str]
    judge: Callable[[re.Match[str]], str] | None = None
    """Says the kind from the match, or "" if it is no secret after all."""

    def spans(self, text: str) -> Iterator[Span]:
        for match in self.pattern.finditer(text):
            kind = self.judge(match) if self.judge else self.kind
            group = match.lastindex or 0
            if kind and not match[group].startswith("[redacted:"):
                yield Span(match.start(group), match.end(group), kind, match.start())


def _token(kind: str, prefixes: str, rest: str) -> Shape:
    """A token that begins with one of some prefixes, separated by spaces."""
    starts = tuple(prefixes.split())
    return Shape(kind, starts, re.compile(BOUNDARY + "(?:" + "|".join(map(re.escape, starts)) + ")" + rest))


def _context(kind: str, triggers: str, pattern: str, judge: Callable[[re.Match[str]], str] | None = None) -> Shape:
    """A secret known by what stands around it, in any case of letters."""
    return Shape(kind, tuple(triggers.split()), re.compile(pattern, re.IGNORECASE | re.MULTILINE), judge)


def shapes_for(text: str) -> list[Shape | Assignments]:
    """The kinds of secret that may be in a text; for most texts none."""
    long = " ".join([word for word in text.split() if len(word) >= LONG_WORD])
    found: list[Shape | Assignments] = []
    if long:
        found += [shape for shape in TOKENS if any(trigger in long for trigger in shape.triggers)]
    if long or ":" in text or "=" in text or "--" in text:
        lower = text.lower()
        found += [shape for shape in CONTEXTS if any(trigger in lower for trigger in shape.triggers)]
        if (":" in text or "=" in text) and NAMED.search(lower):
            found += ASSIGNMENTS
    return found


LONG_WORD = 16
"""No token is shorter than this."""

# What follows a secret's name in quotes, code or a header: never a placeholder such as {token}, $TOKEN or <token>.
VALUE = r"(?![{$<\[%*])[^\s\"'<>\\,;]"


@lru_cache(4096)
def looks_secret(name: str) -> bool:
    """Whether a variable's name says that its value is secret: GITHUB_TOKEN, dbPassword; not KEYBOARD, AUTHOR."""
    words = _words(name)
    if not words or words[-1] in HARMLESS_ENDS or words in (["PWD"], ["OLDPWD"]):
        return False
    if words[-1] in ("KEYS", "TOKENS"):
        return len(words) > 1 and words[-2] in QUALIFIERS
    return any(
        word in SECRET_WORDS or (word.endswith(SECRET_ENDINGS) and not word.endswith(FALSE_FRIENDS)) for word in words
    )


def assigned(name: str, value: str, *, quoted: bool) -> str:
    """The kind of secret that `name = value` gives away in a text, or "".

    Args:
        name: as written: API_KEY, clientSecret, spring.datasource.password.
        value: without its quotes.
        quoted: whether it had some. Bare values are mostly code, so they must look less like it.
    """
    if value.startswith(("[redacted:", "{", "$", "<", "%", "*")) or not looks_secret(name):
        return ""
    words = set(_words(name))
    mixed = bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value)) and " " not in value
    if words & PASSWORD_WORDS or any(word.endswith(("PASSWORD", "PASSWD", "SECRET")) for word in words):
        return "password" if (quoted and len(value) >= 4) or (mixed and len(value) >= SHORT) else ""
    plain_key = not words & {"TOKEN", "APIKEY", "BEARER", "JWT"} and not words & QUALIFIERS and not name.isupper()
    if "PUBLIC" in words or not mixed or (plain_key and not any(word.endswith("TOKEN") for word in words)):
        return ""
    return "secret" if len(value) >= (SHORT if quoted else LONG) else ""


SHORT, LONG = 8, 12
SECRET_WORDS = frozenset(
    ["KEY", "TOKEN", "SECRET", "PASS", "PWD", "AUTH", "AUTHORIZATION", "BEARER", "COOKIE", "JWT", "PAT", "APIKEY"]
)
SECRET_ENDINGS = tuple(
    [
        "KEY",
        "TOKEN",
        "SECRET",
        "SECRETS",
        "PASSWORD",
        "PASSWORDS",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "CREDENTIALS",
        "CREDS",
        "OAUTH",
    ]
)
FALSE_FRIENDS = tuple(["MONKEY", "TURKEY", "DONKEY", "HOTKEY", "HOCKEY", "JOCKEY", "WHISKEY", "MICKEY", "KEYKEY"])
HARMLESS_ENDS = frozenset(
    [
        "FILE",
        "PATH",
        "DIR",
        "SOCK",
        "HOME",
        "ID",
        "NAME",
        "TYPE",
        "LIMIT",
        "COUNT",
        "TIMEOUT",
        "LENGTH",
        "SIZE",
        "METHOD",
        "ENABLED",
        "EXPIRES",
        "TTL",
        "PROMPT",
        "INDEX",
    ]
)
PASSWORD_WORDS = frozenset(["PASSWORD", "PASSWORDS", "PASSWD", "PASSPHRASE", "PWD", "SECRET", "SECRETS"])
QUALIFIERS = frozenset(
    [
        "API",
        "ACCESS",
        "SECRET",
        "PRIVATE",
        "ENCRYPTION",
        "SIGNING",
        "ACCOUNT",
        "MASTER",
        "AUTH",
        "SERVICE",
        "STORAGE",
        "SHARED",
        "SUBSCRIPTION",
        "DEPLOY",
        "ADMIN",
        "REFRESH",
        "BOT",
        "SESSION",
        "CLIENT",
    ]
)


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^A-Z0-9]+", spaced.upper()) if word]


def _judge_variable(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    harmless = value.startswith(("$", '"', "'", "<", "[redacted:")) or not looks_secret(name)
    return "" if harmless else "secret"


def _judge_bearer(match: re.Match[str]) -> str:
    return "authorization" if re.search(r"\d", match[1]) else ""


# name = "value", "name": "value", name: value, name := value, name: str = "value", environ["name"] = "value"
NAME = re.compile(
    r"(?<![\w.-])([A-Za-z_][\w.-]{1,80}+)\\{0,3}[\"']?\]?[ \t]*"
    r"(?::[ \t]*[A-Za-z][\w.\[\]|]{0,30}[ \t]*(?==))?(?::=|=>|[=:])[ \t]*"
)
ASSIGNED = re.compile(
    r"[bruBRU]{0,2}\\{0,3}\"(?P<double>[^\"\n\\]{4,})|[bruBRU]{0,2}\\{0,3}'(?P<single>[^'\n\\]{4,})"
    r"|(?P<bare>[^\s\"',;&(){}\[\]<>`\\]{8,})"
)


class Assignments:
    """Values assigned to names that look secret, in code, settings, JSON, headers and addresses."""

    def spans(self, text: str) -> Iterator[Span]:
        done = 0
        for found in NAME.finditer(text):
            value = ASSIGNED.match(text, found.end()) if found.start() >= done and looks_secret(found[1]) else None
            if value is None or value.lastgroup is None:
                continue
            done = value.end()
            kind = assigned(found[1], value[value.lastgroup], quoted=value.lastgroup != "bare")
            if kind:
                yield Span(*value.span(value.lastgroup), kind, found.start())


TOKENS = (
    _token("anthropic-key", "sk-ant-", r"[\w-]{16,}"),
    _token("openai-key", "sk-", r"(?=[\w-]*\d)[A-Za-z0-9][\w-]{18,}"),
    _token("github-token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\w{20,}"),
    _token("gitlab-token", "glpat- glptt- glrt- gldt- glft- glsoat- glcbt- gloas-", r"[\w.-]{16,}"),
    _token("aws-key-id", "AKIA ASIA AROA AIDA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token("google-key", "AIza", r"[\w-]{35}"),
    _token("google-oauth", "ya29. GOCSPX-", r"[\w-]{20,}"),
    _token("slack-token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-", r"[\w-]{12,}"),
    _token("stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"[A-Za-z0-9]{16,}"),
    _token("huggingface-token", "hf_ api_org_", r"[A-Za-z0-9]{30,}"),
    _token("npm-token", "npm_", r"[A-Za-z0-9]{36,}"),
    _token("pypi-token", "pypi-", r"[\w-]{40,}"),
    _token("jwt", "eyJ", r"[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    _token("sendgrid-key", "SG.", r"[\w-]{16,}\.[\w-]{16,}"),
    _token("twilio-key", "SK", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{40,}"),
    _token("databricks-token", "dapi", r"[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])"),
    _token("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    _token("mailgun-key", "key-", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("linear-key", "lin_api_", r"[A-Za-z0-9]{32,}"),
    _token("notion-token", "ntn_", r"[A-Za-z0-9]{40,}"),
    _token("docker-token", "dckr_pat_", r"[\w-]{20,}"),
    _token("vault-token", "hvs. hvb.", r"[\w-]{24,}"),
    _token("groq-key", "gsk_", r"[A-Za-z0-9]{32,}"),
    _token("xai-key", "xai-", r"[A-Za-z0-9]{40,}"),
    _token("replicate-token", "r8_", r"[A-Za-z0-9]{32,}"),
    _token("perplexity-key", "pplx-", r"[A-Za-z0-9]{32,}"),
    _token("atlassian-token", "ATATT3", r"[\w=-]{40,}"),
    _token("grafana-token", "glsa_ glc_", r"[\w=+/]{32,}"),
    _token("postman-key", "PMAK-", r"[0-9a-f-]{40,}"),
    _token("age-key", "AGE-SECRET-KEY-1", r"[0-9A-Z]{40,}"),
    Shape("telegram-token", (":AA",), re.compile(r"(?<![\w-])\d{8,10}:AA[\w-]{33}(?![\w-])")),
    Shape("azure-key", ("==",), re.compile(r"(?<![A-Za-z0-9+/-])[A-Za-z0-9+/]{86}==")),
    Shape("azure-secret", ("8Q~",), re.compile(BOUNDARY + r"[\w.~-]{3}8Q~[\w.~-]{31,}")),
)

CONTEXTS = (
    _context("azure-key", "accountkey= sharedaccesskey=", r"(?:account|sharedaccess)key=([A-Za-z0-9+/=]{16,})"),
    _context("azure-sas", "sig=", r"[?&;]sig=([A-Za-z0-9%+/=_-]{24,})"),
    _context("slack-webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows)/([\w/]{20,})"),
    _context("discord-webhook", "/api/webhooks/", r"/api/webhooks/\d{10,}/([\w-]{40,})"),
    _context("discord-token", "discord bot", r"(?<![\w-])[mno][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,45}(?![\w-])"),
    _context("url-password", "://", r"://[^\s/:@\"'<>]{0,100}:(?![{$<])([^\s/\"'<>]{1,300})@"),
    _context(
        "authorization",
        "authorization",
        r"(?:proxy-)?authorization\\{0,3}[\"']?[ \t]*[:=][ \t]*\\{0,3}[\"']?"
        rf"(?:(?:bearer|basic|token|digest|apikey|negotiate|aws4-hmac-sha256)[ \t]+)?+({VALUE}{{6,}}(?:[^\n\"'\\])*)",
    ),
    _context("authorization", "bearer basic", r"\b(?:bearer|basic)[ \t]+([A-Za-z0-9._~+/-]{16,}=*)", _judge_bearer),
    _context("cookie", "cookie", r"\b(?:set-)?cookie:[ \t]*[\w.-]+=([^\n\"']{8,})"),
    _context("password", "curl", r"\bcurl\b[^\n]{0,300}?[ \t](?:-u|--user)[ =]?[\"']?[^\s:\"']+:([^\s\"']{3,})"),
    _context(
        "password",
        "--pass --token --api --secret --auth --access",
        rf"(?<![\w-])--(?:password|passwd|passphrase|token|api-key|secret|auth-token|access-token)[ =][\"']?"
        rf"({VALUE}{{6,}})",
    ),
)

NAMED = re.compile(
    r"(?:key|token|secret|pass|pwd|auth|credential|creds|cookie|jwt|bearer)[\w.-]{0,30}+[\"'\\\])]*[ \t]*[:=]"
)
"""A secret-looking name before a separator, in lower-cased text: the trigger of the assignments."""
ASSIGNMENTS: tuple[Shape | Assignments, ...] = (
    Shape(
        "secret",
        (),
        re.compile(r"(?m)(?:^|[ \t;'\"])(?P<name>[A-Z][A-Z0-9_]+)=(?P<value>[^\s\"'$<][^\s\"']{5,})"),
        _judge_variable,
    ),
    Assignments(),
)
