"""Putting a specialist to work beside the embedded runtime: on an Ollama server, or on any OpenAI-compatible one.

Only what the gate let through is deployed. The file that is served is base and adapter merged, for servers do not take
our adapters; where it is served is noted in the registry.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import registry, specialists
from agent.config import cache_dir, data_dir
from agent.errors import ConsentDenied, InputError, ModelRefused, ModelUnavailable, UsageError
from agent.messages import Message
from agent.models import embedded
from agent.models.gguf_file import sha256
from agent.registry import Specialist
from agent.settings import Settings
from training.convert.file import fields_of, open_gguf
from training.export import Exported, Quantisation, model_gguf
from training.ollama import Ollama, Progress

Tell = Callable[[str], None]
PROBE = [Message("system", "Answer in one word."), Message("user", "Which colour is the sky?\n")]


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a specialist was put to work.

    Args:
        address: the model's address from now on.
        quantisation: of the served file; empty where base and adapter are served as they are.
        file: the served file, where it is kept here; else empty.
    """

    address: str
    quantisation: str = ""
    file: str = ""


async def to_ollama(
    found: Specialist, model: str, quantisation: Quantisation, settings: Settings, tell: Tell, progress: Progress
) -> Deployment:
    """Make a model of a specialist on the Ollama server that `models.ollama_url` names.

    Args:
        found: the specialist; promoted now or once.
        model: what Ollama calls it.
        quantisation: of the merged file; a finer one is taken where its blocks do not divide the rows.
        settings: the server and its time-outs.
        tell: told each step.
        progress: told how much of a file is sent.

    Raises:
        UsageError: the gate did not let it through.
        InputError: the base's chat template is not the one that Ollama is given.
        ModelError: the server is not there, refuses, breaks off, or renders another prompt than the training's.
    """
    address = f"ollama:{model}"
    base = _check(found, address, settings)
    template = _check_template(base)
    server = Ollama(model, settings)
    prompt = training_prompt(found)
    if await server.takes_adapters():
        tell("this Ollama takes adapters: base and adapter are sent as they are")
        files = {base.name: await server.upload(base, sha256(base), progress)}
        adapters = {"adapter.gguf": await server.upload(found.adapter, found.adapter_sha256, progress)}
        await server.create(files, adapters, prompt[0].content, tell)
        made = ""
    else:
        with _scratch() as folder:
            merged = model_gguf(base, found.adapter, Path(folder) / f"{found.name}.gguf", quantisation, tell=tell)
            _tell_note(merged, tell)
            files = {merged.path.name: await server.upload(merged.path, specialists.file_sha256(merged.path), progress)}
        await server.create(files, {}, prompt[0].content, tell)
        made = merged.quantisation
    rendered = await server.rendered(prompt)
    if rendered is None:
        tell("this Ollama does not show the prompt that it renders, so that was not checked")
    elif rendered != render(template, prompt):
        raise ModelRefused(
            f"Ollama renders another prompt for {model} than the one that it was trained on",
            f"It renders {rendered[:200]!r}.",
        )
    return _record(found, Deployment(address, made), settings)


async def to_server(
    found: Specialist, url: str, model: str, quantisation: Quantisation, settings: Settings, tell: Tell
) -> Deployment:
    """Write the merged file that a server of yours is to serve, and note its address once the server lists the model.

    Args:
        found: the specialist; promoted now or once.
        url: the server's OpenAI-compatible root, e.g. http://127.0.0.1:8000/v1.
        model: what the server calls it.
        quantisation: of the file.
        settings: time-outs, and the data folder that the file goes to.
        tell: told each step.

    Raises:
        UsageError: the gate did not let it through.
        ModelUnavailable: the server does not answer, or does not list the model; the hint says how to serve the file.
    """
    address = f"openai@{url}:{model}"
    base = _check(found, address, settings)
    exports = data_dir(settings) / "exports"
    file = exports / f"{found.name}-{found.version}-{found.adapter_sha256[:8]}-{quantisation}.gguf"
    if file.exists():
        tell(f"{file} is there already")
    else:
        _tell_note(model_gguf(base, found.adapter, file, quantisation, tell=tell), tell)
        tell(f"wrote {file}")
    listed = await _models_of(url, address, settings)
    if model not in listed:
        raise ModelUnavailable(
            f"{url} does not serve {model}; it lists {', '.join(listed) or 'nothing'}",
            f"Serve the file there, e.g. `llama-server -m {file} --alias {model}`, and run this again.",
        )
    return _record(found, Deployment(address, quantisation, str(file)), settings)


def training_prompt(found: Specialist) -> list[Message]:
    """A conversation as the specialist was trained on: its skill's system message, and a user's."""
    if found.card.get("skill") != "annotate":
        return PROBE
    from skills.annotate import framework
    from skills.annotate.attempt import prompt

    return prompt(framework.load("eight-moves"), "We measured 12 rivers.\nSalt rose by 4% where roads were near.")


def render(template: str, messages: Sequence[Message]) -> str:
    """A conversation through a chat template of Jinja, up to where the reply begins: what training renders."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    form = Jinja2ChatFormatter(template, eos_token="<|im_end|>", bos_token="")
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return str(form(messages=turns).prompt)  # type: ignore[arg-type]


def chatml(messages: Sequence[Message]) -> str:
    """What Ollama's template makes of a conversation."""
    turns = (f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages)
    return f"{''.join(turns)}<|im_start|>assistant\n"


def _check(found: Specialist, address: str, settings: Settings) -> Path:
    """The base to deploy it with. Raises unless it was let through by the gate and may be sent there."""
    if settings.privacy == "local-only" and not registry.is_local(address, settings):
        raise ConsentDenied(f"{address} is not on this machine, and privacy is local-only", "Change `privacy`.")
    if found.version != "0" and specialists.status(found, settings) == "candidate":
        raise UsageError(
            f"{found.address} is a candidate that no gate let through",
            f"First `apprentice registry promote {found.name}`.",
        )
    base = embedded.find(settings)
    registry.check_weights(found, base)
    return base


def _check_template(base: Path) -> str:
    """The base's chat template, if it is ChatML. Raises InputError if it says anything else."""
    template = str(fields_of(open_gguf(base)).get("tokenizer.chat_template", ""))
    if not template or render(template, PROBE) != chatml(PROBE):
        raise InputError(
            f"the chat template of {base.name} is not ChatML, the only one that is written for Ollama here"
        )
    return template


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder in the cache: a merged model may be larger than the system's folder for temporary files."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="deploy-", dir=cache_dir())


def _tell_note(merged: Exported, tell: Tell) -> None:
    if merged.note:
        tell(merged.note)


async def _models_of(url: str, address: str, settings: Settings) -> list[str]:
    from agent.models.http import Failure, Server, import_httpx, key_from

    httpx = import_httpx()
    server = Server(address, url, settings, key=key_from("OPENAI_API_KEY"), key_name="OPENAI_API_KEY")
    try:
        with server.failures():
            async with httpx.AsyncClient(**server.client_options()) as client:
                answer = await client.get(f"{server.url}/models", headers=server.key_headers())
                if answer.status_code != 200:
                    raise server.refused(answer.status_code, answer.text, answer.headers)
                return [str(entry["id"]) for entry in answer.json()["data"]]
    except Failure as failure:
        raise failure.error from None


def _record(found: Specialist, made: Deployment, settings: Settings) -> Deployment:
    entry = {"address": made.address, "quantisation": made.quantisation, "file": made.file}
    specialists.record_deployment(found, entry, settings)
    return made
