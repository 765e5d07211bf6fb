"""The settings: every section and key, its default and what it means. agent/config.py reads them from files."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

EFFECT = r"^(?:shell|net:[\w.-]+|mcp:[\w-]+)$"
"""The effects that can be allowed in advance; consent for a host holds for all its ports."""
MCP_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
"""The names that an MCP server can have: they begin its tools' names."""
Protocol = Literal["auto", "native", "json", "text"]
Grounding = Literal["none", "numbers", "words"]
BestBy = Literal["agreement", "likelihood"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class Models(Section):
    default: str = ""
    """The model for tasks that no specialist takes, e.g. ollama:qwen3:8b. Empty: the agent asks you to set one."""
    strong: str = ""
    """The model that takes over when an answer fails its validators, or the first model gave up. Empty: nobody does."""
    local_path: str = ""
    """A GGUF file that stands in for the embedded model."""
    protocol: Protocol = "auto"
    """How a model is asked to act. auto: native where the backend has it, else json, else text."""
    toolshim: str = ""
    """A model that turns the prose of the one that works into calls. Empty: that one calls tools as protocol says."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 always takes the likeliest token."""
    max_tokens: int = Field(default=1024, ge=1)
    """The most tokens of one reply."""
    context: int = Field(default=8192, ge=256)
    """Tokens of context: of llama.cpp's and Ollama's window, and assumed of a server that does not say."""
    threads: int = Field(default=0, ge=0)
    """Threads for llama.cpp. 0: as many as there are cores that are free when it starts."""
    connect_timeout: float = Field(default=5, gt=0)
    """Seconds to reach a server."""
    read_timeout: float = Field(default=120, gt=0)
    """Seconds that a server may stay silent."""
    retries: int = Field(default=3, ge=0, le=10)
    """Further attempts after a connection error, 429 or 5xx."""
    ollama_url: str = "http://127.0.0.1:11434"
    """The server of ollama:NAME."""
    openai_url: str = "https://api.openai.com/v1"
    """The server of openai:NAME."""
    anthropic_url: str = "https://api.anthropic.com"
    """The server of anthropic:NAME."""
    hub_url: str = "https://huggingface.co"
    """Where the embedded model is downloaded from, after asking, if it is nowhere on this machine."""


class Budget(Section):
    steps: int = Field(default=20, ge=1)
    """Model turns in one run."""
    tokens: int = Field(default=200_000, ge=1)
    """Prompt and completion tokens in one run."""
    seconds: float = Field(default=1800, gt=0)
    """Wall time of one run."""


class Tools(Section):
    disabled: list[str] = []
    """Tools that the model is not offered."""
    shell_timeout: float = Field(default=60, gt=0)
    """Seconds after which a shell command's whole process group is ended."""
    output_limit: int = Field(default=8000, ge=200)
    """Characters of one observation; the rest goes into a file."""
    fetch_limit: int = Field(default=2_000_000, ge=1000)
    """Bytes of one fetched page."""
    fetch_timeout: float = Field(default=20, gt=0)
    """Seconds of one fetch, redirects included."""
    rewrite_limit: int = Field(default=4000, ge=0)
    """Bytes of the largest existing file that write_file replaces whole; --overwrite lifts it."""
    arxiv_url: str = "https://export.arxiv.org/api/query"
    """Where the tool arxiv asks."""


class Consent(Section):
    allow: list[Annotated[str, StringConstraints(pattern=EFFECT)]] = []
    """Effects that are not asked about: shell, net:HOST, mcp:SERVER. (Writing in the workspace: --yes.)"""
    allow_after_outside: list[Annotated[str, StringConstraints(pattern=EFFECT)]] = []
    """The same, and also once a run has read content from outside the workspace (pages, MCP answers)."""


class Rule(Section):
    action: Literal["allow", "ask", "deny"]
    """Deny beats ask beats allow."""
    tool: str = ""
    """A tool's name; * stands for any characters."""
    path: str = ""
    """A path from the workspace; ** passes slashes. Without a slash: a name in any folder."""
    host: str = ""
    """A host's name; * stands for any characters."""
    command: str = ""
    """A shell command; * stands for any characters."""
    after_outside: bool = False
    """Whether an allow also holds once content from outside the workspace was read."""

    @model_validator(mode="after")
    def _names_something(self) -> Rule:
        if not (self.tool or self.path or self.host or self.command):
            raise ValueError("a rule names a tool, path, host or command")
        if self.after_outside and self.action != "allow":
            raise ValueError("after_outside is for rules that allow")
        return self


class Policy(Section):
    rules: list[Rule] = []
    """What is allowed, asked about or denied, by tool, path, host and command. A project's rules only deny or ask."""
    personal: Literal["redact", "keep"] = "redact"
    """E-mail addresses, phone, card and account numbers in prompts of models that are not local: replaced, or kept."""


class Annotate(Section):
    framework: str = "eight-moves"
    """A framework file's name, without .toml."""
    grounding: Grounding = "numbers"
    """What decoding may not invent: none, numbers, or words (numbers and content words)."""
    max_move_tokens: int = Field(default=64, ge=8)
    """The most tokens of one move."""
    retries: int = Field(default=1, ge=0, le=5)
    """Further attempts of the same model when validators object."""
    best_of: int = Field(default=1, ge=1, le=16)
    """Replies to one abstract, of which the best of each move is taken. More cost time and gain a little."""
    best_by: BestBy = "agreement"
    """Which is best. agreement: most like the others' same move; likelihood: of the likeliest reply."""


class Gate(Section):
    rows: int = Field(default=40, ge=40)
    """Verified rows, kept out of training, that a promotion is decided on. Never fewer than 40."""
    margin: float = Field(default=0.005, ge=0, lt=1)
    """By how much a candidate's token F1 must be above the incumbent's, as the mean over the same rows."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """The share of bootstrap draws in which the candidate must be ahead."""
    rehearsal_drop: float = Field(default=0.05, ge=0, le=1)
    """How much of the base's pass share on the rehearsal suite a candidate may lose."""


class Improve(Section):
    every: int = Field(default=0, ge=0)
    """New good or corrected runs after which `improve` starts by itself in the background. 0: never."""


class McpServer(Section):
    """One MCP server. Texts may say `${VAR}` or `${VAR:-default}`: secrets stay in the environment."""

    command: str = ""
    """The program of a stdio server."""
    args: list[str] = []
    """Its arguments."""
    env: dict[str, str] = {}
    """Variables beside the few harmless ones that it inherits."""
    cwd: str = ""
    """The folder that it runs in. Empty: the workspace."""
    url: str = ""
    """The address of a streamable HTTP server, instead of a command."""
    headers: dict[str, str] = {}
    """Sent with every request to the URL."""
    client_id: str = ""
    """The OAuth client that was registered beforehand with the server's authority. Empty: one is registered."""
    client_secret: str = ""
    """Its secret, if it has one."""
    client_metadata_url: str = ""
    """An https address that describes this client, for authorities that take it as the client's id."""
    issuer: str = ""
    """The authority that registered the client for a program: it signs in by itself, and no browser opens."""
    private_key: str = ""
    """Its key in PEM, instead of a secret, where it signs what it says of itself."""
    signing_algorithm: Literal["RS256", "ES256", "EdDSA"] = "RS256"
    """How it signs."""
    legacy: bool = False
    """Begin with the older handshake: for servers that stay silent when asked for the newer one."""
    timeout: float = Field(default=60, gt=0)
    """Seconds that a request may take; progress that the server reports begins them anew."""
    connect_timeout: float = Field(default=10, gt=0)
    """Seconds until the server is ready."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("a server has either a command or a url")
        if self.issuer and not (self.url and self.client_id and bool(self.client_secret) != bool(self.private_key)):
            raise ValueError("with an issuer a server has a url, a client_id, and a client_secret or a private_key")
        return self


class Mcp(Section):
    shown: int = Field(default=12, ge=1)
    """MCP tools that the model sees at once: with more, those that fit the task, and find_tools finds the others."""
    servers: dict[Annotated[str, StringConstraints(pattern=MCP_NAME)], McpServer] = {}
    """MCP servers by name: [mcp.servers.NAME] with command, args, env, cwd, or url, headers."""


class Beads(Section):
    enabled: bool = False
    """Offer the bead tools also where the workspace has no .beads folder yet."""
    bd: bool = True
    """Go through bd where it is installed. false: read and write .beads/issues.jsonl directly."""
    attempts: int = Field(default=3, ge=1)
    """How often `apprentice work` begins a bead before it marks it as blocked."""
    poll: float = Field(default=1.0, gt=0)
    """Seconds after which a worker that waits for others looks again."""
    heartbeat: float = Field(default=15, gt=0)
    """Seconds between the signs of life of a process that holds beads."""
    stale: float = Field(default=300, gt=0)
    """Seconds without a sign of life after which a holder on another machine counts as dead."""


class Work(Section):
    phases: bool = False
    """Whether a task is planned and carried out in turn, with other tools for each (--phases)."""
    strategic_model: str = ""
    """The model that plans. Empty: the task's."""
    tactical_model: str = ""
    """The model that carries out. Empty: the task's."""
    todos: bool = False
    """Whether the model is offered a todo list where there are no phases."""
    notes: bool = False
    """Whether the model is offered to keep notes about this folder, .apprentice/NOTES.md."""
    notes_tokens: int = Field(default=400, ge=0)
    """The most tokens of these notes. They are shown when a run begins; 0: never."""
    delegate: bool = False
    """Whether the model may hand parts of a task to sub-agents."""
    delegate_model: str = ""
    """The model of sub-agents. Empty: that of the run which starts them."""
    depth: int = Field(default=1, ge=0)
    """How deep sub-agents go. 1: they start none of their own; 0: there are none."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The part of what is left of a run's budget that one call of delegate may spend."""
    parallel: int = Field(default=4, ge=1)
    """The most sub-agents of one run that work at once."""


class Settings(Section):
    privacy: Literal["open", "local-only"] = "open"
    """local-only: no task's text leaves this machine, whatever else is configured."""
    data_dir: str = ""
    """The folder of the trace store and the specialists. Empty: the platform's place."""
    models: Models = Models()
    budget: Budget = Budget()
    tools: Tools = Tools()
    consent: Consent = Consent()
    policy: Policy = Policy()
    annotate: Annotate = Annotate()
    gate: Gate = Gate()
    improve: Improve = Improve()
    mcp: Mcp = Mcp()
    beads: Beads = Beads()
    work: Work = Work()
