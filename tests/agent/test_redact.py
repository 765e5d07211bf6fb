"""Secrets leave text before it is written, however it is cut; ordinary text stays as it is."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.redact import WINDOW, Redactor
from agent.secret_shapes import looks_secret

LETTERS = "aZ3kQ9xT7bLm2VnR8cYp5WdH4fGs6JtKu1EoXiNq0PwBvCz"
HEX = "4f9c1b7a0d3e8256" * 4


def made(length: int) -> str:
    """A key's random part: made here, so that no real one stands in the repository."""
    return (LETTERS * 5)[:length]


# Each begins in two pieces, so that no scanner of repositories takes it for a leaked key.
TOKENS = {
    "openai-key": "sk-" + made(48),
    "openai-key ": "sk-" + "proj-" + made(60),
    "anthropic-key": "sk-" + "ant-api03-" + made(80),
    "github-token": "ghp" + "_" + made(36),
    "github-token ": "gho" + "_" + made(36),
    "github-token  ": "github" + "_pat_" + made(59),
    "gitlab-token": "glpat" + "-" + made(20),
    "aws-key-id": "AK" + "IAQ7RS2TUV4WXYZ6AB",
    "google-key": "AI" + "za" + made(35),
    "google-oauth": "ya29" + ".a0" + made(40),
    "slack-token": "xoxb" + "-123456789012-" + made(24),
    "stripe-key": "sk" + "_live_" + made(24),
    "huggingface-token": "hf" + "_" + made(34),
    "npm-token": "npm" + "_" + made(36),
    "pypi-token": "pypi" + "-AgEIcHlwaS5vcmc" + made(60),
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0." + made(43),
    "sendgrid-key": "SG" + "." + made(22) + "." + made(43),
    "twilio-key": "SK" + HEX[:32],
    "digitalocean-token": "dop" + "_v1_" + HEX,
    "telegram-token": "110201543" + ":AA" + made(33),
    "databricks-token": "da" + "pi" + HEX[:32],
    "shopify-token": "shp" + "at_" + HEX[:32],
    "mailgun-key": "key" + "-" + HEX[:32],
    "linear-key": "lin" + "_api_" + made(40),
    "notion-token": "ntn" + "_" + made(46),
    "docker-token": "dckr" + "_pat_" + made(27),
    "vault-token": "hv" + "s." + made(40),
    "groq-key": "gsk" + "_" + made(52),
    "xai-key": "xai" + "-" + made(80),
    "replicate-token": "r8" + "_" + made(37),
    "perplexity-key": "pplx" + "-" + made(48),
    "atlassian-token": "ATA" + "TT3" + made(60),
    "grafana-token": "gls" + "a_" + made(32),
    "postman-key": "PMAK" + "-" + HEX[:24] + "-" + HEX[:34],
    "age-key": "AGE-SECRET" + "-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE",
    "azure-key": made(86) + "==",
    "azure-secret": "abc8Q~" + made(34),
}

# (the text, the part that is secret)
IN_CONTEXT = [
    ("Authorization: Bearer {}", made(20)),
    ("authorization: basic {}", "dXNlcjpodW50ZXIy"),
    ('curl -H "Authorization: token {}" https://example.org', made(20)),
    ("headers = {{'Authorization': 'Bearer {}'}}", made(30)),
    ("the client sent Bearer {} twice", made(32)),
    ("Cookie: session={}", made(24) + "; theme=dark"),
    ("AccountName=x;AccountKey={};EndpointSuffix=core.windows.net", made(40) + "=="),
    ("https://blob.example.net/c?sv=2024&sig={}", made(44) + "%3D"),
    ("https://hooks.slack.com/services/{}", "T0AAAAAAA/B0BBBBBBB/" + made(24)),
    ("https://discord.com/api/webhooks/123456789012345678/{}", made(68)),
    ("DISCORD bot: {}", "M" + made(25) + ".GabcdE." + made(38)),
    ("postgresql://admin:{}@db.example.org:5432/app", "hunter2"),
    ("git clone https://me:{}@git.example.org/x.git", "s3cr3t-p@ss"),
    ("curl -u admin:{} https://example.org", "hunter2"),
    ("mysql --password={} -h db", "hunter22"),
    ("deploy --token {} now", made(20)),
    ('password = "{}"', "correct horse"),
    ("{{'db_password': '{}'}}", "hunter2"),
    ('{{"api_key": "{}"}}', made(20)),
    ('{{\\"api_key\\": \\"{}\\"}}', made(20)),
    ('client_secret: "{}"', made(20)),
    ("secret_access_key: {}", made(40)),
    ('aws_secret_access_key = "{}"', "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLKEYz"[:40]),
    ("export DB_PASSWORD={}", "correcthorse"),
    ("OPENAI_KEY={}", made(20)),
    ('api_key: str = "{}"', made(20)),
    ('os.environ["API_TOKEN"] = "{}"', made(20)),
    ("x-api-key: {}", made(24)),
    ("https://api.example.org/v1?api_key={}&page=2", made(20)),
    ("//registry.example.org/:_authToken={}", made(36)),
    ("clientSecret := '{}'", "hunter22"),
]

KEY_BLOCK = "-----BEGIN {0}PRIVATE KEY-----\n" + "\n".join([made(64)] * 20) + "\n-----END {0}PRIVATE KEY-----"

CLEAN = [
    "We train a 135M-parameter model on 1,368 abstracts; token F1 rises from 0.41 to 0.58 (p < 0.01).",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 by Author <author@example.org>",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "run 123e4567-e89b-12d3-a456-426614174000 of arXiv:2401.01234v2 and doi:10.1145/3292500.3330701",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    '"integrity": "sha512-' + made(86) + '=="',
    "max_tokens=2048, tokenizer=AutoTokenizer.from_pretrained(name), token_ids: list[int]",
    'key=lambda row: row["score"], sort_key="published_date_2024", keyboard: qwerty-layout-104',
    "token = tokenizer.next_token(stream); password: str; secret = os.environ['SECRET']",
    'headers = {"Authorization": f"Bearer {token}"}; url = "https://user:{password}@host/x"',
    "The author: Smith2024smith; authors = ['Ada Lovelace']; the key: a 12-dimensional embedding",
    "See https://example.org/a/b?page=2#sec and mailto:someone@example.org, sk-learn, risk-based and task-specific",
    "Bearer of news; basic understanding-of-transformers; 10:30:45, ratio 3:1, std::vector<int>",
    "from agent.models.base import Capabilities, Delta, Reply  # pypi-publish, npm_config_registry, hf_hub_download",
    "MONKEY=bananas-are-great KEYBOARD=us-international PATH=/usr/local/bin:/usr/bin",
    '{"role": "assistant", "tool_call_id": "call_9f8e7d6c5b4a39281706", "content": ""}',
]


@pytest.fixture
def redactor() -> Redactor:
    return Redactor({})


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_replaced_by_its_kind(redactor: Redactor, kind: str) -> None:
    secret = TOKENS[kind]
    for frame in ("{}", "set it to {} and go on", '{{"x": "{}"}}', "X={}\n", "({})", "`{}`"):
        assert redactor.redact(frame.format(secret)) == frame.format(f"[redacted:{kind.strip()}]")


@pytest.mark.parametrize(("text", "secret"), IN_CONTEXT)
def test_a_secret_is_known_by_what_stands_around_it(redactor: Redactor, text: str, secret: str) -> None:
    after = redactor.redact(text.format(secret))
    assert secret not in after
    assert "[redacted:" in after
    assert after.split("[redacted:")[0] == text.format(secret).split(secret)[0], "what is before the secret stays"


@pytest.mark.parametrize("label", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_a_private_key_block_goes_as_a_whole(redactor: Redactor, label: str) -> None:
    assert redactor.redact(f"before\n{KEY_BLOCK.format(label)}\nafter\n") == "before\n[redacted:private-key]\nafter\n"


def test_a_private_key_in_a_json_string_goes_too(redactor: Redactor) -> None:
    text = '{"private_key": "' + KEY_BLOCK.format("").replace("\n", "\\n") + '\\n", "id": 7}'
    assert redactor.redact(text) == '{"private_key": "[redacted:private-key]\\n", "id": 7}'


def test_a_pgp_block_with_headers_goes_too(redactor: Redactor) -> None:
    block = f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2.0 (GNU Linux)\n\n{made(64)}\n=aB3d\n"
    text = block + "-----END PGP PRIVATE KEY BLOCK-----\nThat was it.\n"
    assert redactor.redact(text) == "[redacted:private-key]\nThat was it.\n"


def test_a_key_block_that_breaks_off_ends_where_prose_begins(redactor: Redactor) -> None:
    text = f"-----BEGIN RSA PRIVATE KEY-----\n{made(64)}\n  2: {made(64)}\nand here the file was cut off\n"
    assert redactor.redact(text) == "[redacted:private-key]\nand here the file was cut off\n"


def test_a_sentence_about_key_blocks_keeps_its_words(redactor: Redactor) -> None:
    text = "A line -----BEGIN RSA PRIVATE KEY----- is how such a file begins.\n"
    assert redactor.redact(text) == "A line [redacted:private-key] is how such a file begins.\n"


def test_a_public_key_is_no_secret(redactor: Redactor) -> None:
    text = f"-----BEGIN PUBLIC KEY-----\n{made(60)}\n-----END PUBLIC KEY-----\n"
    assert redactor.redact(text) == text


@pytest.mark.parametrize("text", CLEAN)
def test_ordinary_text_is_left_alone(redactor: Redactor, text: str) -> None:
    assert redactor.redact(text) == text


def test_redacting_twice_changes_nothing_more(redactor: Redactor) -> None:
    once = redactor.redact("\n".join([*TOKENS.values(), *(text.format(secret) for text, secret in IN_CONTEXT)]))
    assert redactor.redact(once) == once


class TestKnownValues:
    def test_the_value_of_a_secret_looking_variable_is_a_secret_everywhere(self) -> None:
        redactor = Redactor({"MY_SERVICE_TOKEN": "open sesame", "HOME": "/home/somebody"})
        assert redactor.redact("say open sesame at /home/somebody") == (
            "say [redacted:environment-value] at /home/somebody"
        )

    def test_values_shorter_than_eight_characters_are_not_redacted(self) -> None:
        assert Redactor({"API_KEY": "1234567"}).redact("id 1234567") == "id 1234567"
        assert Redactor({"API_KEY": "12345678"}).redact("id 12345678") != "id 12345678"

    def test_it_is_also_found_as_json_and_urls_spell_it(self) -> None:
        redactor = Redactor({"DB_PASSWORD": 'a"b/c d&é'})
        for spelled in (r"a\"b/c d&\u00e9", "a%22b%2Fc%20d%26%C3%A9"):
            assert redactor.redact(f"<{spelled}>") == "<[redacted:environment-value]>"

    def test_each_line_of_a_long_value_is_known(self) -> None:
        redactor = Redactor({"SIGNING_KEY": "first-line-xyz\nsecond-line-xyz\n"})
        assert "second-line" not in redactor.redact("12: second-line-xyz\n")

    def test_of_overlapping_values_the_longer_is_taken_whole(self) -> None:
        redactor = Redactor({"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefgh-ijkl"})
        assert redactor.redact("x abcdefgh-ijkl y") == "x [redacted:environment-value] y"

    def test_the_path_of_a_file_that_exists_is_no_secret(self) -> None:
        assert Redactor({"GOOGLE_CREDENTIALS": __file__}).redact(__file__) == __file__

    @pytest.mark.parametrize(
        "name",
        [
            "OPENAI_API_KEY",
            "GITHUB_TOKEN",
            "PGPASSWORD",
            "MYSQL_PWD",
            "dbPassword",
            "DJANGO_SECRET",
            "AWS_SECRET_ACCESS_KEY",
            "SMTP_PASS",
            "REGISTRY_AUTH",
            "AWS_CREDENTIALS",
            "SESSION_COOKIE",
            "GPG_PASSPHRASE",
            "OPENAIKEY",
            "API_KEYS",
            "CI_JWT",
        ],
    )
    def test_names_that_look_secret(self, name: str) -> None:
        assert looks_secret(name)

    @pytest.mark.parametrize(
        "name",
        [
            "PATH",
            "HOME",
            "PWD",
            "OLDPWD",
            "KEYBOARD_LAYOUT",
            "MONKEY",
            "GIT_AUTHOR_NAME",
            "TOKENIZERS_PARALLELISM",
            "SSH_AUTH_SOCK",
            "MAX_TOKENS",
            "AWS_ACCESS_KEY_ID",
            "PASSWORD_FILE",
            "COMPASS_HOST",
            "XDG_SESSION_TYPE",
            "KEYCLOAK_HOST",
            "KEY_PATH",
            "123",
        ],
    )
    def test_names_that_only_resemble_them(self, name: str) -> None:
        assert not looks_secret(name)


class TestJson:
    def test_strings_at_every_depth_and_keys_are_redacted(self, redactor: Redactor) -> None:
        token = TOKENS["github-token"]
        value = {"a": [{"b": f"x {token}"}, 1, None, True], token: 2.5, "t": (token,)}
        mark = "[redacted:github-token]"
        assert redactor.redact_json(value) == {"a": [{"b": f"x {mark}"}, 1, None, True], mark: 2.5, "t": [mark]}

    def test_a_string_under_a_secret_name_goes_as_a_whole(self, redactor: Redactor) -> None:
        assert redactor.redact_json({"password": "a b", "db": {"password": "hunter2"}, "key": "a"}) == {
            "password": "a b",
            "db": {"password": "[redacted:password]"},
            "key": "a",
        }

    def test_a_tool_schema_stays_as_it_is(self, redactor: Redactor) -> None:
        schema = {"properties": {"password": {"type": "string", "description": "the password"}}, "required": ["token"]}
        assert redactor.redact_json(schema) == schema


SECRETS = [*TOKENS.values(), *(text.format(secret) for text, secret in IN_CONTEXT), KEY_BLOCK.format("RSA ")]
PIECES = st.one_of(
    st.sampled_from(SECRETS),
    st.sampled_from(
        [" ", "\n", "=", ": ", '"', "x" * 40, "-----BEGIN RSA PRIVATE KEY-----", "-----END", "known-value"]
    ),
    st.text(alphabet=string.printable, max_size=30),
    st.text(max_size=10),
)


class TestStream:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(PIECES, max_size=12).map("".join), st.data())
    def test_however_a_text_is_cut_the_output_is_that_of_the_whole(self, text: str, data: st.DataObject) -> None:
        redactor = Redactor({"SOME_TOKEN": "known-value-1"})
        stream = redactor.stream()
        shown, rest = "", text
        while rest:
            size = data.draw(st.integers(1, max(1, min(len(rest), 80))))
            shown += stream.feed(rest[:size])
            rest = rest[size:]
        assert shown + stream.close() == redactor.redact(text)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 400), st.sampled_from(SECRETS[:40]), st.integers(1, 5000), st.booleans())
    def test_a_line_longer_than_the_window_is_cut_beside_the_secret(
        self, offset: int, secret: str, size: int, spaced: bool
    ) -> None:
        redactor = Redactor({})
        filler = "word " * WINDOW if spaced else "%" * WINDOW * 2
        text = filler[: WINDOW // 2 - offset] + " " + secret + " " + filler[: WINDOW * 2]
        stream = redactor.stream()
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        shown = "".join(stream.feed(chunk) for chunk in chunks) + stream.close()
        assert shown == redactor.redact(text)
        assert secret not in shown

    def test_complete_lines_come_at_once_and_little_is_held_back(self, redactor: Redactor) -> None:
        stream = redactor.stream()
        assert stream.feed("one\ntw") == "one\n"
        assert stream.feed("o\nthree") == "two\n"
        held = len("three") + 10 * WINDOW - sum(len(stream.feed("word " * 100)) for _ in range(10 * WINDOW // 500))
        assert held <= WINDOW + 500
        assert stream.close()

    def test_a_key_block_over_many_chunks_goes_as_a_whole(self, redactor: Redactor) -> None:
        stream = redactor.stream()
        text = f"a\n{KEY_BLOCK.format('EC ')}\nb"
        assert "".join(map(stream.feed, text)) + stream.close() == "a\n[redacted:private-key]\nb"

    def test_a_stream_may_be_used_again(self, redactor: Redactor) -> None:
        stream = redactor.stream()
        stream.feed("-----BEGIN RSA PRIVATE KEY-----\nabc")
        stream.close()
        assert stream.feed("hello\n") == "hello\n"


def test_clean_text_costs_little(redactor: Redactor) -> None:
    text = ("We present a method for small language models: it annotates scientific abstracts. " * 30)[:2048]
    best = min(_seconds(redactor, text) for _ in range(50))
    assert best < 500e-6, "2 KB take about 50 microseconds; ten times that is another algorithm"


def test_a_hostile_text_takes_no_more_than_linear_time(redactor: Redactor) -> None:
    for unit in ('a="', "key=", "password:", "://a:", "eyJa.", "-----BEGIN RSA PRIVATE KEY-----", "token ", "sk-"):
        assert _seconds(redactor, unit * (200_000 // len(unit))) < 5


def _seconds(redactor: Redactor, text: str) -> float:
    started = time.perf_counter()
    redactor.redact(text)
    return time.perf_counter() - started
