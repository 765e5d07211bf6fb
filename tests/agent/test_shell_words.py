"""Reading a shell command: its parts, and whether it uses the network."""

from __future__ import annotations

import pytest

from agent.shell_words import code_uses_network, is_simple, parts, plain, runs_code, uses_network


@pytest.mark.parametrize(
    "command",
    [
        "curl x",
        "cu'r'l x",
        "cu\\rl x",
        "c\\\nurl x",
        "curl${IFS}x",
        "/usr/bin/curl x",
        "A=1 timeout 5 curl x",
        "sudo -n curl x",
        "true; curl x",
        "echo $(curl x)",
        "echo `curl x`",
        "echo x | xargs curl",
        "if true; then curl x; fi",
        "$X y",
        "eval 'x'",
        "echo aGk= | base64 -d",
        "echo x | sh",
        "cat a | python3",
        "bash <(echo x)",
        "python3 << E\nE",
        "cat a > /dev/tcp/1.2.3.4/80",
        "git push",
        "git -C x fetch",
        "pip install x",
        "python -m pip install x",
        "python -m http.server",
        "npm install",
        "python3 -c 'import socket'",
        "python3 -c 'import urllib.request'",
        "node -e \"require('http')\"",
        "grep x http://a.org/b",
        "ssh a@b",
        "busybox wget x",
    ],
)
def test_a_command_that_uses_the_network_is_seen(command: str) -> None:
    assert uses_network(command)


@pytest.mark.parametrize(
    "command",
    [
        "ls -la",
        "python -m pytest -q",
        "git status && git add . && git commit -m 'host and mail'",
        "grep -rn 'requests' src",
        "make test",
        'for f in *.py; do wc -l "$f"; done',
        "find . -name '*.py' | xargs wc -l",
        "python3 -c \"import re; print(re.compile('a'))\"",
        "pip list",
        "sed -n 1,5p hosts.txt",
        "echo $HOME",
        "sort a | uniq -c | head",
        "",
    ],
)
def test_an_ordinary_command_is_not_taken_for_one(command: str) -> None:
    assert uses_network(command) == ""


def test_parts_are_the_simple_commands_without_what_stands_before_them() -> None:
    assert parts("cd x && A=1 sudo git push | tee log") == (
        "cd x",
        "A=1 sudo git push",
        "git push",
        "tee log",
    )
    assert plain("g'i't\\t  'a b'   c") == "gitt a b c"


@pytest.mark.parametrize("command", ["a; b", "a && b", "a | b", "a > b", "a $(b)", "a `b`", "a $B", "a\nb", "(a)"])
def test_a_simple_command_is_one_program_with_its_arguments(command: str) -> None:
    assert is_simple("git log --oneline -3")
    assert not is_simple(command)


def test_commands_that_only_read_run_no_code() -> None:
    assert not runs_code("cat a | sort > b; ls")
    assert runs_code("ls; python3 a.py")
    assert runs_code("./run")


def test_what_a_program_says_of_the_network_is_seen() -> None:
    assert code_uses_network("a.py", "import socket\n") == "'socket' in a.py"
    assert "__import__" in code_uses_network("a.py", "m = __import__('so' + 'cket')\n")
    assert "curl" in code_uses_network("Makefile", "all:\n\t@curl x\n")
    assert "'nc'" in code_uses_network("run.sh", "echo x\nnc h 1\n")
    assert code_uses_network("a.py", '"""See https://example.org."""\nimport re\nX = re.compile("a")\n') == ""
    assert code_uses_network("run.sh", "echo x\n") == ""
