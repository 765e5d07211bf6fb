"""Settings: which layer wins, what an error says, and what a project file may say before its folder is trusted."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.config import load
from agent.errors import ConfigError
from agent.settings import Settings


def user_says(text: str) -> Path:
    path = config.config_dir() / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def project_says(workspace: Path, text: str) -> Path:
    path = workspace / ".apprentice" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def settings(workspace: Path, trusted: bool = True, **flags: Any) -> Settings:
    return load(workspace, trusted=trusted, flags={key.replace("__", "."): entry for key, entry in flags.items()})[0]


def test_without_any_file_the_defaults_hold(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPRENTICE_DATA_DIR")
    assert load(workspace, trusted=False) == (Settings(), [])


def test_each_layer_wins_over_the_one_before(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [settings(workspace).budget.steps]
    user_says("[budget]\nsteps = 11")
    seen.append(settings(workspace).budget.steps)
    project_says(workspace, "[budget]\nsteps = 12")
    seen.append(settings(workspace).budget.steps)
    monkeypatch.setenv("APPRENTICE_BUDGET__STEPS", "13")
    seen.append(settings(workspace).budget.steps)
    seen.append(settings(workspace, budget__steps=14).budget.steps)
    assert seen == [20, 11, 12, 13, 14]


def test_a_layer_replaces_only_the_keys_that_it_has(workspace: Path) -> None:
    user_says('[models]\ndefault = "local"\nthreads = 2')
    project_says(workspace, "[models]\nthreads = 1")
    models = settings(workspace).models
    assert (models.default, models.threads) == ("local", 1)


def test_the_data_folder_follows_the_same_order(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_says('data_dir = "/from/file"')
    assert config.data_dir(settings(workspace)) == Path(os.environ["APPRENTICE_DATA_DIR"])
    assert config.data_dir(settings(workspace, data_dir="/from/flag")) == Path("/from/flag")
    monkeypatch.delenv("APPRENTICE_DATA_DIR")
    assert config.data_dir(settings(workspace)) == Path("/from/file")
    assert config.data_dir(Settings(data_dir="~/x")) == Path.home() / "x"
    assert config.data_dir(Settings()).name == "apprentice"


def test_folders_come_from_the_environment_or_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APPRENTICE_CACHE_DIR", str(tmp_path))
    assert config.cache_dir() == tmp_path
    monkeypatch.delenv("APPRENTICE_CACHE_DIR")
    monkeypatch.delenv("APPRENTICE_CONFIG_DIR")
    assert config.cache_dir().name == config.config_dir().name == "apprentice"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[models]\ndefualt = 'x'", "there is no setting 'models.defualt'", "Did you mean 'models.default'?"),
        ("[zzzzzzzzzz]\nq = 1", "there is no setting 'zzzzzzzzzz'", "lists every setting"),
        ("privacy = 'closed'", "privacy = 'closed' does not fit", "Allowed: open, local-only."),
        ("[annotate]\ngrounding = 'much'", "annotate.grounding = 'much'", "Allowed: none, numbers, words."),
        ("[budget]\nsteps = 0", "budget.steps = 0 does not fit", "(default 20)"),
        ("[budget]\nseconds = nan", "budget.seconds = nan does not fit", "Wall time"),
        ("models = 3", "models = 3 does not fit", "lists every setting"),
        ("[tools]\ndisabled = [1]", "tools.disabled.0 = 1 does not fit", "lists every setting"),
        ("privacy = ", "is not valid TOML", "Correct that line"),
        (f"a = {'[' * 5000}", "is not valid TOML", "Correct"),
    ],
)
def test_an_error_names_the_file_the_key_and_what_is_allowed(
    workspace: Path, text: str, message: str, hint: str
) -> None:
    path = user_says(text)
    with pytest.raises(ConfigError) as caught:
        load(workspace, trusted=False)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_an_error_in_the_project_file_names_that_file_trusted_or_not(workspace: Path) -> None:
    path = project_says(workspace, "[budget]\nstep = 1")
    for trusted in (True, False):
        with pytest.raises(ConfigError, match=str(path)) as caught:
            load(workspace, trusted=trusted)
        assert "budget.steps" in caught.value.hint


def test_a_file_that_is_not_utf_8_is_an_error(workspace: Path) -> None:
    user_says("").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(workspace, trusted=False)


def test_a_config_that_is_no_regular_file_is_refused_and_not_waited_for(workspace: Path) -> None:
    path = project_says(workspace, "")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        load(workspace, trusted=False)


def test_a_config_that_cannot_be_reached_is_an_error(workspace: Path) -> None:
    path = project_says(workspace, "")
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(workspace, trusted=False)


def test_environment_variables_are_named_after_the_keys(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPRENTICE_PRIVACY", "local-only")
    monkeypatch.setenv("APPRENTICE_MODELS__TEMPERATURE", "0.5")
    monkeypatch.setenv("APPRENTICE_CONSENT__ALLOW", "shell, net:a.org")
    monkeypatch.setenv("APPRENTICE_TEST_SOMETHING", "is not ours to read")
    found = settings(workspace)
    assert (found.privacy, found.models.temperature) == ("local-only", 0.5)
    assert found.consent.allow == ["shell", "net:a.org"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("APPRENTICE_MODELS__DEFUALT", "models.default"), ("APPRENTICE_PRIVCY", "privacy"), ("APPRENTICE_A__B", "")],
)
def test_a_misspelt_environment_variable_is_an_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=name) as caught:
        load(workspace, trusted=False)
    assert hint in caught.value.hint


def test_a_bad_value_in_the_environment_or_a_flag_names_its_source(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"the command line: budget\.steps = -1"):
        settings(workspace, budget__steps=-1)
    monkeypatch.setenv("APPRENTICE_BUDGET__STEPS", "many")
    with pytest.raises(ConfigError, match=r"the environment: budget\.steps = 'many'"):
        load(workspace, trusted=False)


WIDENINGS = [
    'privacy = "open"',
    'data_dir = "/tmp/theirs"',
    '[models]\ndefault = "openai@http://evil.example/v1:m"',
    '[models]\nstrong = "openai@http://evil.example/v1:m"',
    '[models]\nlocal_path = "theirs.gguf"',
    '[models]\nollama_url = "http://evil.example"',
    '[models]\nopenai_url = "http://evil.example"',
    '[models]\nanthropic_url = "http://evil.example"',
    '[models]\nhub_url = "http://evil.example"',
    '[models]\nprotocol = "text"',
    "[models]\nretries = 0",
    "[models]\nmax_tokens = 5",
    '[tools]\narxiv_url = "http://evil.example"',
    '[consent]\nallow = ["shell"]',
    "[consent]\nallow = []",
    '[consent]\nallow_after_outside = ["shell"]',
    "[budget]\nsteps = 21",
    '[budget]\nsteps = "21"',
    "[budget]\ntokens = 200_001",
    "[budget]\nseconds = 1801",
    "[budget]\nseconds = inf",
    "[tools]\nshell_timeout = 61",
    "[tools]\noutput_limit = 8001",
    "[tools]\nfetch_limit = 2_000_001",
    "[tools]\nfetch_timeout = 21",
    '[models]\ntoolshim = "openai:theirs"',
    '[annotate]\nframework = "theirs"',
    "[gate]\nrows = 41",
    "[gate]\nmargin = 0.0",
    "[gate]\nconfidence = 0.5",
    "[gate]\nrehearsal_drop = 1.0",
    "[improve]\nevery = 1",
    "[mcp]\nshown = 100",
    '[mcp.servers.evil]\ncommand = "evil"',
    '[annotate]\ngrounding = "none"',
    "[annotate]\nbest_of = 8",
    '[annotate]\nbest_by = "likelihood"',
    "[beads]\nenabled = true",
    "[beads]\nbd = false",
    "[beads]\nattempts = 100",
    "[beads]\npoll = 0.01",
    "[beads]\nheartbeat = 0.01",
    "[beads]\nstale = 1",
    "[tools]\nrewrite_limit = 5000",
    "[work]\nphases = true",
    '[work]\nstrategic_model = "openai:gpt-5"',
    '[work]\ntactical_model = "openai:gpt-5"',
    "[work]\ntodos = true",
    "[work]\nnotes = true",
    "[work]\nnotes_tokens = 401",
    "[work]\ndelegate = true",
    '[work]\ndelegate_model = "openai:gpt-5"',
    "[work]\ndepth = 2",
    "[work]\nshare = 0.6",
    "[work]\nparallel = 5",
]


@pytest.mark.parametrize("text", WIDENINGS)
def test_an_untrusted_project_file_cannot_widen(workspace: Path, text: str) -> None:
    before = settings(workspace)
    path = project_says(workspace, text)
    found, notices = load(workspace, trusted=False)
    assert found == before
    assert len(notices) == 1
    assert str(path) in notices[0]
    assert "ignored until you trust this folder" in notices[0]


def test_every_setting_is_either_on_the_list_of_narrowing_ones_or_tried_above() -> None:
    tried = "\n".join(WIDENINGS)
    untried = {row[0] for row in config.describe() if row[0].rpartition(".")[2] not in tried}
    assert untried == {
        "models.temperature",
        "models.context",
        "models.threads",
        "models.connect_timeout",
        "models.read_timeout",
        "tools.disabled",
        "annotate.max_move_tokens",
        "policy.rules",
        "policy.personal",
    }


DENY = '[[policy.rules]]\naction = "deny"\ntool = "run_shell"\n'
ALLOW = '[[policy.rules]]\naction = "allow"\ntool = "*"\nafter_outside = true\n'


@pytest.mark.parametrize("trusted", [True, False])
def test_a_projects_policy_is_added_to_the_users_and_may_only_be_stricter(workspace: Path, trusted: bool) -> None:
    user_says('[policy]\npersonal = "keep"\n[[policy.rules]]\naction = "ask"\npath = ".env"\n')
    path = project_says(workspace, DENY + ALLOW)
    found, notices = load(workspace, trusted=trusted)
    assert [(rule.action, rule.tool or rule.path) for rule in found.policy.rules] == [
        ("ask", ".env"),
        ("deny", "run_shell"),
    ]
    assert found.policy.personal == "keep"
    assert notices == [f"{path}: a policy rule that allows is ignored: only your own file may allow"]


@pytest.mark.parametrize("trusted", [True, False])
def test_only_the_user_may_keep_personal_data_in_prompts(workspace: Path, trusted: bool) -> None:
    path = project_says(workspace, '[policy]\npersonal = "keep"')
    found, notices = load(workspace, trusted=trusted)
    assert found.policy.personal == "redact"
    assert notices == [f"{path}: policy.personal is ignored: only your own file may keep personal data in prompts"]
    user_says('[policy]\npersonal = "keep"')
    project_says(workspace, '[policy]\npersonal = "redact"')
    assert load(workspace, trusted=trusted)[0].policy.personal == "redact"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('action = "deny"', "names a tool, path, host or command"),
        ('action = "perhaps"\ntool = "x"', "action"),
        ('action = "deny"\ntool = "x"\nafter_outside = true', "after_outside is for rules that allow"),
        ('action = "deny"\ntol = "x"', "no setting"),
    ],
)
def test_a_rule_that_says_nothing_clear_is_an_error(workspace: Path, text: str, said: str) -> None:
    user_says(f"[[policy.rules]]\n{text}\n")
    with pytest.raises(ConfigError, match=said):
        load(workspace, trusted=False)


@pytest.mark.parametrize("section", ["temperature = 1", "context = 512", "threads = 1", "read_timeout = 1"])
def test_an_untrusted_project_file_does_not_touch_the_models(workspace: Path, section: str) -> None:
    before = settings(workspace)
    project_says(workspace, f"[models]\n{section}")
    assert load(workspace, trusted=False)[0] == before


def test_an_untrusted_project_file_may_narrow(workspace: Path) -> None:
    user_says('[tools]\ndisabled = ["fetch_url"]\n[budget]\ntokens = 500')
    project_says(
        workspace,
        'privacy = "local-only"\n[budget]\nsteps = "5"\ntokens = 400\nseconds = 10\n'
        '[tools]\ndisabled = ["run_shell"]\noutput_limit = 300\nfetch_limit = 1000\n'
        "fetch_timeout = 1\nshell_timeout = 2\nrewrite_limit = 0\n"
        "[work]\ndepth = 0\nshare = 0.1\nparallel = 1\nnotes_tokens = 0",
    )
    found, notices = load(workspace, trusted=False)
    assert notices == []
    assert found.privacy == "local-only"
    assert (found.budget.steps, found.budget.tokens, found.budget.seconds) == (5, 400, 10)
    assert found.tools.disabled == ["fetch_url", "run_shell"]
    assert (found.tools.output_limit, found.tools.fetch_limit) == (300, 1000)
    assert (found.tools.fetch_timeout, found.tools.shell_timeout, found.tools.rewrite_limit) == (1, 2, 0)
    assert (found.work.depth, found.work.share, found.work.parallel, found.work.notes_tokens) == (0, 0.1, 1, 0)


def test_narrowing_is_measured_against_what_the_user_set(workspace: Path) -> None:
    user_says('privacy = "local-only"\n[budget]\nsteps = 3\n[tools]\ndisabled = ["run_shell"]')
    project_says(workspace, 'privacy = "open"\n[budget]\nsteps = 10\n[tools]\ndisabled = []')
    found, notices = load(workspace, trusted=False)
    assert (found.privacy, found.budget.steps, found.tools.disabled) == ("local-only", 3, ["run_shell"])
    assert len(notices) == 2


def test_a_trusted_project_file_says_what_it_likes(workspace: Path) -> None:
    project_says(workspace, '[models]\ndefault = "local"\n[consent]\nallow = ["shell"]')
    found, notices = load(workspace, trusted=True)
    assert (found.models.default, found.consent.allow, notices) == ("local", ["shell"], [])


def test_describe_lists_every_setting_with_its_default() -> None:
    rows = config.describe()
    assert ("budget.steps", "20", "Model turns in one run.") in rows
    assert [row[0] for row in rows][:2] == ["privacy", "data_dir"]
    assert all(config.value(Settings(), key) == ast.literal_eval(default) for key, default, _ in rows)


def test_value_finds_a_dotted_key_and_suggests_the_nearest() -> None:
    assert config.value(Settings(), "budget.steps") == 20
    for key in ("budget.stepps", "budget.steps.more"):
        with pytest.raises(ConfigError, match=key) as caught:
            config.value(Settings(), key)
        assert "budget.steps" in caught.value.hint


def test_settings_are_not_shared_between_loads(workspace: Path) -> None:
    first = settings(workspace)
    first.consent.allow.append("shell")
    assert settings(workspace).consent.allow == Settings().consent.allow == []


@pytest.mark.parametrize("effect", ["shel", "write", "net:", "net:example.org:8080"])
def test_an_effect_that_does_not_exist_cannot_be_allowed(workspace: Path, effect: str) -> None:
    with pytest.raises(ConfigError, match=r"consent\.allow"):
        config.load(workspace, trusted=False, flags={"consent.allow": [effect]})
