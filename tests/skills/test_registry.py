"""Skills: what is read of them, what is refused, what activates them, and what a model is told."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from agent.errors import ConfigError, InputError, ToolError, UsageError
from skills import frontmatter, registry
from skills.registry import Skill, Skills, activate, load

BUILT_IN = {"summarize", "review", "panel"}


def write(folder: Path, name: str, head: str = "", body: str = "Do it.", description: str = "does it") -> Path:
    path = folder / name / "SKILL.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\nname: {name}\ndescription: {description}\n{head}---\n{body}\n")
    return path


def triggered_by(folder: Path, name: str, triggers: str) -> Path:
    return write(folder, name, f"metadata:\n  triggers: '{triggers}'\n")


@pytest.fixture
def user(tmp_path: Path) -> Path:
    return tmp_path / "user-skills"


def skill_at(path: Path) -> Skill:
    head = frontmatter.read(path)
    return Skill(head.name, head.description, path.parent, "user", head.allowed_tools, head.metadata)


# What a SKILL.md may say


def test_the_six_keys_are_read(user: Path) -> None:
    path = write(
        user,
        "good-1",
        "license: MIT\ncompatibility: any agent\nallowed-tools: read_file, Bash(git add:*) Grep\n"
        "metadata:\n  triggers: do good\n  version: '1.0'\n",
        description="  >\n  two\n  lines",
    )
    head = frontmatter.read(path)
    assert (head.name, head.description) == ("good-1", "two lines")
    assert head.allowed_tools == ("read_file", "Bash(git add:*)", "Grep")
    assert head.metadata == {"triggers": "do good", "version": "1.0"}


def test_allowed_tools_may_be_a_list(user: Path) -> None:
    assert frontmatter.read(write(user, "a", "allowed-tools: [read_file, arxiv]\n")).allowed_tools == (
        "read_file",
        "arxiv",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no frontmatter", "does not begin with a line of ---"),
        ("", "does not begin with a line of ---"),
        ("---\nname: bad\ndescription: d\n", "no closing line"),
        ("---\n" + "# x\n" * 9000 + "---\n", "longer than 16384 bytes"),
        ("---\n- a\n---\n", "must be lines of `key: value`"),
        ("---\nname: [\n---\n", "line 3: the frontmatter is not valid YAML"),
        ("---\nname: !!python/object:os.system {}\n---\n", "not valid YAML"),
        ("---\nname: bad\n---\n", "'description' must be a text"),
        ("---\ndescription: d\n---\n", "'name' must be a text"),
        ("---\nname: other\ndescription: d\n---\n", "differs from the folder's"),
        ("---\nname: Bad\ndescription: d\n---\n", "must be made of a-z"),
        ("---\nname: bad-\ndescription: d\n---\n", "must be made of a-z"),
        ("---\nname: " + "b" * 65 + "\ndescription: d\n---\n", "at most 64"),
        ("---\nname: bad\ndescription: " + "d" * 1025 + "\n---\n", "has 1025 characters"),
        ("---\nname: bad\ndescription: 5\n---\n", "'description' must be a text"),
        ("---\nname: bad\ndescription: d\ncompatibility: " + "c" * 501 + "\n---\n", "at most 500"),
        ("---\nname: bad\ndescription: d\nlicense: 2\n---\n", "'license' must be a text"),
        ("---\nname: bad\ndescription: d\nmetadata: x\n---\n", "'metadata' must be lines"),
        ("---\nname: bad\ndescription: d\nmetadata:\n  version: 1.0\n---\n", "metadata 'version' must map"),
        ("---\nname: bad\ndescription: d\nallowed-tools: 3\n---\n", "'allowed-tools' must be"),
        ("---\nname: bad\ndescription: d\nallowed-tools: [3]\n---\n", "'allowed-tools' must be"),
        ("---\nname: bad\ndescription: d\nmetadata:\n  triggers: /(a+)+/\n---\n", "repeats a repeat"),
        ("---\nname: bad\ndescription: d\nmetadata:\n  triggers: /[/\n---\n", "no regular expression"),
    ],
)
def test_a_broken_skill_is_left_out_with_its_file_and_reason(user: Path, text: str, reason: str) -> None:
    path = user / "bad" / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    write(user, "good")
    skills, notices = load(user, None)
    assert set(skills) >= BUILT_IN | {"good"}
    assert "bad" not in skills
    (notice,) = notices
    assert str(path) in notice
    assert reason in notice
    with pytest.raises(InputError) as caught:
        activate("/bad do it", skills)
    assert reason in caught.value.message


def test_a_misspelt_key_is_answered_with_the_nearest(user: Path) -> None:
    with pytest.raises(InputError, match="no key 'alowed-tools'") as caught:
        frontmatter.read(write(user, "bad", "alowed-tools: x\n"))
    assert caught.value.hint == "Did you mean 'allowed-tools'?"
    with pytest.raises(InputError) as caught:
        frontmatter.read(write(user, "bad", "qqq: x\n"))
    assert "name, description, license" in caught.value.hint


def test_a_skill_that_is_not_utf_8_or_no_file_is_left_out(user: Path) -> None:
    write(user, "latin").write_bytes(b"---\nname: latin\ndescription: caf\xe9\n---\n")
    (user / "folder" / "SKILL.md").mkdir(parents=True)
    _, notices = load(user, None)
    assert "Is a directory" in notices[0]
    assert "not UTF-8" in notices[1]


def test_only_the_frontmatter_is_read_until_a_skill_is_active(user: Path) -> None:
    path = write(user, "half")
    path.write_bytes(path.read_bytes() + b"\xff\xff")
    skills, notices = load(user, None)
    assert "half" in skills
    assert notices == []
    with pytest.raises(InputError, match="not UTF-8"):
        registry.body(skills["half"])


def test_the_body_is_what_follows_the_frontmatter(user: Path) -> None:
    assert frontmatter.body(write(user, "a", body="# One\n\n---\n\ntwo")) == "# One\n\n---\n\ntwo"
    (user / "a" / "SKILL.md").write_bytes(b"\xef\xbb\xbf---\r\nname: a\r\ndescription: d\r\n---\r\nhello\r\n")
    assert frontmatter.read(user / "a" / "SKILL.md").name == "a"
    assert frontmatter.body(user / "a" / "SKILL.md") == "hello"


# Where skills come from


def test_missing_folders_are_no_problem(user: Path) -> None:
    skills, notices = load(user, None)
    assert set(skills) >= BUILT_IN
    assert notices == []
    assert {skill.origin for skill in skills.values()} == {"built-in"}


def test_a_users_skill_replaces_a_built_in_one_and_says_so(user: Path) -> None:
    write(user, "review", description="mine")
    skills, notices = load(user, None)
    assert (skills["review"].description, skills["review"].origin) == ("mine", "user")
    assert notices == [f"your skill review in {user / 'review'} replaces the built-in one"]


def test_a_projects_skill_replaces_nothing(user: Path, tmp_path: Path) -> None:
    project = tmp_path / "project-skills"
    write(user, "mine", description="the user's")
    for name in ("review", "mine", "theirs"):
        write(project, name, description="the project's")
    skills, notices = load(user, project)
    assert (skills["review"].origin, skills["mine"].origin, skills["theirs"].origin) == ("built-in", "user", "project")
    assert [notice.partition(" is left out")[0] for notice in notices] == [
        str(project / name / "SKILL.md") for name in ("mine", "review")
    ]


def test_a_broken_skill_does_not_take_the_built_in_one_of_its_name_away(user: Path) -> None:
    write(user, "review", "nonsense: 1\n")
    skills, notices = load(user, None)
    assert skills["review"].origin == "built-in"
    assert len(notices) == 1


def test_level_one_takes_a_few_milliseconds(user: Path) -> None:
    for number in range(10):
        write(user, f"skill-{number}")
    load(user, None)  # the import of yaml is counted elsewhere
    times = []
    for _ in range(5):
        started = time.perf_counter()
        load(user, None)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02, "14 skills; 5 ms on a quiet machine"


# Level three


def test_a_skills_files_are_listed_and_read(user: Path) -> None:
    folder = write(user, "a").parent
    (folder / "data").mkdir()
    (folder / "data" / "table.csv").write_text("1,2\n")
    (folder / ".hidden").write_text("")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("")
    skill = skill_at(folder / "SKILL.md")
    assert registry.files(skill) == ["data/table.csv"]
    assert registry.read(skill, "data/table.csv") == "1,2\n"
    assert "Do it." in registry.read(skill, "SKILL.md")


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/etc/hostname", "data/../../secret.txt", "link", "linked/secret.txt"]
)
def test_nothing_outside_a_skills_folder_is_read(user: Path, path: str) -> None:
    folder = write(user, "a").parent
    (user / "secret.txt").write_text("secret")
    (folder / "data").mkdir()
    (folder / "link").symlink_to(user / "secret.txt")
    (folder / "linked").symlink_to(user)
    with pytest.raises(InputError, match="outside the skill a"):
        registry.read(skill_at(folder / "SKILL.md"), path)


def test_what_cannot_be_read_is_named(user: Path) -> None:
    folder = write(user, "a").parent
    skill = skill_at(folder / "SKILL.md")
    os.mkfifo(folder / "pipe")
    (folder / "binary").write_bytes(b"\xff\xfe")
    (folder / "large").write_bytes(b"x" * (registry.LARGEST_FILE + 1))
    reasons = {
        "none.md": "No such file",
        "pipe": "no plain file",
        "binary": "not UTF-8",
        "large": "larger than",
        ".": "Is a directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=reason):
            registry.read(skill, name)
    with pytest.raises(InputError, match="cannot be read") as caught:
        registry.read(skill, "a\0b")
    assert caught.value.hint == "It has: binary, large, pipe."


def test_a_model_reads_a_skills_file_through_a_tool(user: Path) -> None:
    write(user, "a")
    skills, _ = load(user, None)
    tool = registry.reader(skills)
    assert tool.name == "read_skill_file"
    assert set(tool.schema["function"]["parameters"]["properties"]) == {"skill", "path"}
    assert "Do it." in asyncio.run(tool.run(None, skill="a", path="SKILL.md"))
    with pytest.raises(UsageError, match="no skill /b"):
        asyncio.run(tool.run(None, skill="b", path="SKILL.md"))


# What activates a skill


@pytest.fixture
def skills(user: Path) -> Skills:
    triggered_by(user, "annotate", "annotate; annotation of; /\\bmoves? in (?:the|this) abstract\\b/; a;b")
    return load(user, None)[0]


@pytest.mark.parametrize(
    ("task", "names", "rest"),
    [
        ("/annotate paper.txt", ["annotate"], "paper.txt"),
        ("  /annotate   /panel\npaper.txt save to out.md", ["annotate", "panel"], "paper.txt save to out.md"),
        ("/panel /annotate -", ["panel", "annotate"], "-"),
        ("/panel /panel x", ["panel"], "x"),
        ("/panel", ["panel"], ""),
        ("/panel /home/x/paper.txt", ["panel"], "/home/x/paper.txt"),
        ("/panel /tmp", ["panel"], "/tmp"),
        ("/panel x /annotate y", ["panel"], "x /annotate y"),
        ("/etc/hosts has how many lines?", [], "/etc/hosts has how many lines?"),
        ("/paper.txt", [], "/paper.txt"),
        ("/ is the root", [], "/ is the root"),
        ("/tmp is full of what?", [], "/tmp is full of what?"),
        ("say /annotate", [], "say /annotate"),
    ],
)
def test_names_count_only_at_the_very_start(skills: Skills, task: str, names: list[str], rest: str) -> None:
    activations, left = activate(task, skills)
    assert ([activation.skill.name for activation in activations], left) == (names, rest)
    assert all(activation.reason == f"you typed /{activation.skill.name}" for activation in activations)


@pytest.mark.parametrize(
    ("task", "near"), [("/anotate x", "/annotate"), ("/Panel x", "/panel"), ("/panel /sumarize x", "/summarize")]
)
def test_an_unknown_name_is_answered_with_the_nearest(skills: Skills, task: str, near: str) -> None:
    with pytest.raises(UsageError, match="there is no skill /") as caught:
        activate(task, skills)
    assert f"Did you mean {near}?" in caught.value.hint


def test_an_unknown_name_without_a_near_one_points_to_the_list(skills: Skills) -> None:
    with pytest.raises(UsageError) as caught:
        activate("/zzzzzz", skills)
    assert caught.value.hint.startswith("`apprentice skills` lists them")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("Annotate this abstract: we did it", "the task says 'Annotate'"),
        ("I want the annotation  of x", "the task says 'annotation  of'"),
        ("which moves in the abstract are missing?", "the task says 'moves in the abstract'"),
    ],
)
def test_a_trigger_activates_and_its_words_are_shown(skills: Skills, task: str, reason: str) -> None:
    activations, rest = activate(task, skills)
    assert [(a.skill.name, a.reason) for a in activations] == [("annotate", reason)]
    assert rest == task


@pytest.mark.parametrize(
    "task",
    ["", "count the lines of annotate.py", "cd src/annotate", "annotated already", "pre-annotate", "x\nannotate this"],
)
def test_a_part_of_a_word_a_file_name_or_a_later_line_triggers_nothing(skills: Skills, task: str) -> None:
    assert activate(task, skills)[0] == []


def test_of_several_triggers_the_first_in_the_task_wins(skills: Skills) -> None:
    (activation,), _ = activate("summarize it, then annotate it", skills)
    assert activation.skill.name == "summarize"
    (activation,), _ = activate("annotate it, then summarize it", skills)
    assert activation.skill.name == "annotate"


def test_a_semicolon_inside_a_pattern_does_not_end_it(user: Path) -> None:
    triggered_by(user, "semi", "/one;two/; three")
    skills, notices = load(user, None)
    assert notices == []
    assert activate("one;two", skills)[0][0].reason == "the task says 'one;two'"
    assert activate("three", skills)[0][0].reason == "the task says 'three'"
    assert activate("one", skills)[0] == []


def test_a_projects_patterns_are_not_run_but_its_words_are(user: Path, tmp_path: Path) -> None:
    project = tmp_path / "project-skills"
    triggered_by(project, "theirs", "/anything.*/; their words")
    skills, _ = load(user, project)
    assert activate("anything at all", skills)[0] == []
    assert activate("do their words", skills)[0][0].skill.name == "theirs"


# Pipelines, tools, instructions


def test_a_users_skill_may_have_a_pipeline(user: Path) -> None:
    folder = write(user, "my-own").parent
    skill = skill_at(folder / "SKILL.md")
    assert registry.pipeline(skill) is None
    (folder / "skill.py").write_text("async def run(job):\n    return 'did ' + job\n")
    run = registry.pipeline(skill)
    assert run is not None
    assert asyncio.run(run("it")) == "did it"  # type: ignore[arg-type]
    assert not (folder / "__pycache__").exists()


def test_a_built_in_pipeline_is_a_module_of_the_package(user: Path) -> None:
    from skills.panel import skill as panel

    skills, _ = load(user, None)
    assert registry.pipeline(skills["panel"]) is panel.run
    assert registry.pipeline(skills["summarize"]) is None


@pytest.mark.parametrize(
    ("text", "reason"), [("1 / 0", "skill file .* failed: ZeroDivisionError"), ("x = 1", "no function `run`")]
)
def test_a_pipeline_that_fails_to_import_is_named(user: Path, text: str, reason: str) -> None:
    folder = write(user, "a").parent
    (folder / "skill.py").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        registry.pipeline(skill_at(folder / "SKILL.md"))


def test_active_skills_narrow_the_tools_and_never_add_one(user: Path) -> None:
    tools = {"read_file": 1, "write_file": 2, "run_shell": 3, "search_files": 4, "read_skill_file": 5}
    narrow = skill_at(write(user, "narrow", "allowed-tools: read_file launch_rocket\n"))
    foreign = skill_at(write(user, "foreign", "allowed-tools: Bash(git:*), Grep\n"))
    free = skill_at(write(user, "free"))
    assert registry.allowed_tools([], tools) == tools
    assert registry.allowed_tools([free], tools) == tools
    assert registry.allowed_tools([narrow, free], tools) == {"read_file": 1, "read_skill_file": 5}
    assert set(registry.allowed_tools([narrow, foreign], tools)) == {
        "read_file",
        "run_shell",
        "search_files",
        "read_skill_file",
    }


def test_the_prompt_has_the_active_skills_whole_and_the_others_by_description(user: Path) -> None:
    folder = write(user, "active", body="Step one.").parent
    (folder / "table.csv").write_text("")
    write(user, "other", body="Not shown.", description="for other things")
    skills, _ = load(user, None)
    text = registry.instructions([skills["active"]], skills)
    assert "# Skill: active\n\nStep one.\n\nFiles of this skill: table.csv" in text
    assert "- other: for other things" in text
    assert "Not shown." not in text
    assert "- active:" not in text
    assert registry.instructions([], Skills()) == ""


def test_a_long_list_of_files_is_shortened(user: Path) -> None:
    folder = write(user, "many").parent
    for number in range(60):
        (folder / f"{number:02}.txt").write_text("")
    skills, _ = load(user, None)
    assert registry.instructions([skills["many"]], skills).count(".txt") == 50
    assert "and 10 more" in registry.instructions([skills["many"]], skills)


def test_a_tools_error_for_a_model_is_not_swallowed(user: Path) -> None:
    from tools import registry as tools_registry

    skills, _ = load(user, None)
    with pytest.raises(ToolError, match="read_skill_file was not run"):
        tools_registry.validate(registry.reader(skills), {"skill": "panel"})
