"""What can be read off a shell command before it runs: its parts, and whether it uses the network.

This is reading, not sandboxing. Quotes, backslashes and `$IFS` are looked through; a command that is put together
while it runs (`eval`, `| sh`, `$X`, decoding) counts as one that uses the network, because nobody can tell. What it
does not see: a program of the person's that connects by itself, and what a file that was there before does.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PROGRAM_NAMES = (
    "curl wget wget2 aria2c axel nc ncat netcat socat ssh scp sftp rsync ftp lftp tftp telnet ping ping6 dig nslookup "
    "host drill whois traceroute mail mailx sendmail mutt swaks msmtp http https xh lynx w3m links elinks rclone gh "
    "glab aws gsutil gcloud az kubectl helm docker podman ansible nmap openvpn tor torsocks proxychains npx pnpx uvx "
    "brew snap flatpak xdg-open iwr mosh chromium firefox youtube-dl yt-dlp huggingface-cli hf at batch"
)
_PROGRAMS = frozenset(_PROGRAM_NAMES.split())
_WITH = {
    "git": "push fetch pull clone ls-remote remote submodule send-email archive request-pull lfs",
    "pip": "install download wheel index search",
    "pip3": "install download wheel index search",
    "pipx": "install run upgrade",
    "uv": "pip sync add run tool lock publish",
    "poetry": "install add update publish",
    "conda": "install create update",
    "npm": "install i ci add publish exec update view login",
    "yarn": "",
    "pnpm": "install add dlx publish",
    "apt": "install update upgrade download",
    "apt-get": "install update upgrade download source",
    "yum": "",
    "dnf": "",
    "apk": "add update",
    "cargo": "install add publish fetch update search",
    "go": "get install mod",
    "gem": "install push fetch",
    "openssl": "s_client s_server",
    "twine": "upload",
    "svn": "checkout co update commit ci",
    "hg": "push pull clone",
    "busybox": "wget nc telnet ftpget ftpput",
    "osascript": "",
}
_WORDS_BEFORE = "sudo env exec nohup time timeout nice command builtin xargs stdbuf setsid then do else if !"
_BEFORE = frozenset(_WORDS_BEFORE.split())
_INTERPRETERS = r"(?:ba|da|z|k|fi)?sh|python[\d.]*|perl|ruby|node|php|lua|source|\."
_ADDRESS = re.compile(r"/dev/(?:tcp|udp)/|\b\w{2,}://(?!/)")
_CODE = re.compile(
    r"\bsocket|urllib|\brequests\b|http\.client|\bhttpx\b|aiohttp|smtplib|ftplib|"
    r"telnetlib|xmlrpc|paramiko|http\.server|\bfetch\(|require\((?:https?|net|dgram|dns|tls)\)|node:(?:https?|net|dns|tls)|"
    r"Net::|LWP|open-uri|TCPSocket|fsockopen|getaddrinfo|gethostbyname|webbrowser|\bdns\b|asyncio\.open_connection|"
    r"create_connection|INET|\bsmtp\b|http\.get"
)
_BUILT = re.compile(
    rf"\|\s*(?:\S*/)?(?:{_INTERPRETERS})(?=\s|$)|\beval\b|\bbase64\s+(?:-d|-D|--decode)|\bxxd\s+-r|\bb64decode|\bexec\(|"
    rf"__import__|\bfromhex|\bunhexlify|\bcodecs\.decode|<\(|\b(?:{_INTERPRETERS})\s+<<|\bimportlib|(?<!re\.)\bcompile\("
)
_CODE_BUILT = re.compile(r"(?<![\w.])(?:exec|eval)\(|__import__|b64decode|unhexlify|\b(?:curl|wget|ncat|netcat)\b")
_READERS = (
    "ls cat head tail wc grep egrep rg git diff cmp sort uniq cut tr echo printf pwd date stat file du df tree mkdir "
    "rmdir touch cp mv rm basename dirname seq true false test cd tee column nl md5sum sha256sum whoami uname which "
    "type jq"
)
_META = re.compile(r"[;&|\n\r`$<>(){}]")


def is_simple(command: str) -> bool:
    """Whether a command is one program with its arguments: nothing chained, substituted or redirected."""
    return not _META.search(command)


def plain(command: str) -> str:
    """The command without what the shell would take away: quotes, backslashes, `$IFS`, repeated spaces."""
    text = re.sub(r"\$\{?IFS\}?(?:\$\d)?", " ", command.replace("\\\n", ""))
    text = re.sub(r"\$?['\"]|\\(?=\S)", "", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


@lru_cache(256)
def parts(command: str) -> tuple[str, ...]:
    """The simple commands in it, as far as they can be told apart, without assignments and words like `sudo`."""
    found = []
    for piece in re.split(r"[;&|\n\r`(){}]|\$\(", plain(command)):
        words = piece.split()
        found.append(" ".join(words))
        while words and (words[0] in _BEFORE or re.match(r"\w+=", words[0]) or words[0].startswith("-")):
            del words[0]
            if words and re.fullmatch(r"\d+[smh]?", words[0]):  # the seconds of `timeout 5 curl`
                del words[0]
        found.append(" ".join(words))
    return tuple(dict.fromkeys(entry for entry in found if entry))


@lru_cache(256)
def uses_network(command: str) -> str:
    """What in a command uses the network, or may, since it cannot be read; empty if nothing is seen."""
    text = plain(command)
    if built := _BUILT.search(text) or _BUILT.search(command):
        return f"{built[0].strip()!r}, which runs what cannot be read here"
    if address := _ADDRESS.search(text):
        return repr(address[0])
    for part in parts(command):
        words = part.split()
        name = words[0].rpartition("/")[2]
        if name in _PROGRAMS or (name in _WITH and (not _WITH[name] or set(words[1:4]) & set(_WITH[name].split()))):
            return repr(name)
        if words[0].startswith("$"):
            return f"{words[0]!r}, a command that is only known when it runs"
        if re.fullmatch(_INTERPRETERS, name) and (code := _CODE.search(command)):
            return repr(code[0])
        if name.startswith("python") and {"-m"} & set(words) and {"pip", "http.server", "ensurepip"} & set(words):
            return repr(part[:40])
    return ""


def runs_code(command: str) -> bool:
    """Whether a command may run what is written in a file: all but those that only read, list and move."""
    return any(part.split()[0].rpartition("/")[2] not in _READERS.split() for part in parts(command))


def code_uses_network(name: str, text: str) -> str:
    """What in a program's text uses the network, or hides what it does; empty if nothing is seen.

    Args:
        name: of its file; what has no suffix of a language is read as a shell script too.
        text: the program.
    """
    found = _CODE.search(text) or _CODE_BUILT.search(text)
    if found:
        return f"{found[0]!r} in {name}"
    is_script = "." not in name.rpartition("/")[2] or name.endswith((".sh", ".bash", ".mk"))
    how = uses_network(text.replace("@", " ")) if is_script else ""
    return f"{how} in {name}" if how else ""
