"""Specialists on other servers: Ollama at the wire, and any OpenAI-compatible one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

from agent import specialists
from agent.errors import ConsentDenied, InputError, ModelCut, ModelRefused, ModelUnavailable, UsageError
from agent.messages import Message
from agent.models.chat_prompt import prompt_tokens
from agent.models.embedded import find
from agent.registry import Specialist
from agent.settings import Settings
from skills.annotate import attempt, framework
from tests.training import registered, tiny
from tests.wire import go_template
from tests.wire.model_server import closed_port
from tests.wire.models_list import ModelsList
from tests.wire.ollama_library import OllamaLibrary
from training import deploy
from training.ollama import TEMPLATE

ABSTRACT = 'Salt rose by 4% where "roads" were near.\n\nWe didn\'t study lakes {{ .Content }} or µ-decay.'


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return registered.serve(weights, monkeypatch)


@pytest.fixture
def found(weights: Path, settings: Settings) -> Specialist:
    """A promoted specialist on the tiny base."""
    registered.allow(registered.add(weights, 0, settings))
    return specialists.promote("tester", "1", settings)


@pytest.fixture
def told() -> list[str]:
    return []


def at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"models": settings.models.model_copy(update={"ollama_url": url, "retries": 0})})


def to_ollama(found: Specialist, settings: Settings, told: list[str], url: str, model: str = "m") -> deploy.Deployment:
    def progress(name: str, done: int, total: int) -> None:
        told.append(f"{name} {done}/{total}")

    return asyncio.run(deploy.to_ollama(found, model, "Q8_0", at(settings, url), told.append, progress))


def test_a_new_ollama_gets_one_merged_and_quantised_file(
    found: Specialist, settings: Settings, told: list[str], tmp_path: Path
) -> None:
    with OllamaLibrary("0.34.1") as server:
        made = to_ollama(found, settings, told, server.url)
        model = server.models["m"]
        (digest,) = model["files"].values()
        sent = tmp_path / "sent.gguf"
        sent.write_bytes(server.blobs[digest])
    assert (made.address, made.quantisation) == ("ollama:m", "Q8_0")
    assert "adapters" not in model
    assert model["template"] == TEMPLATE
    assert model["parameters"] == {"stop": ["<|im_end|>", "</annotation>"], "temperature": 0.1, "num_ctx": 4096}
    assert model["system"] == attempt.prompt(framework.load("eight-moves"), "")[0].content
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(sent).tensors if len(tensor.shape) > 1}
    assert kinds == {"Q8_0"}
    assert told[-3:] == ["ollama: parsing GGUF", "ollama: writing manifest", "ollama: success"]
    assert f"tester.gguf {sent.stat().st_size}/{sent.stat().st_size}" in told
    assert [entry["address"] for entry in specialists.deployments(found, settings)] == ["ollama:m"]


def test_an_old_ollama_gets_base_and_adapter_as_they_are(
    weights: Path, found: Specialist, settings: Settings, told: list[str]
) -> None:
    with OllamaLibrary("0.33.0") as server:
        made = to_ollama(found, settings, told, server.url)
        assert server.models["m"]["files"] == {"base.gguf": digest_of(weights / "base.gguf")}
        assert server.models["m"]["adapters"] == {"adapter.gguf": digest_of(found.adapter)}
    assert made.quantisation == ""


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_file_that_the_server_has_is_not_sent_again(found: Specialist, settings: Settings, told: list[str]) -> None:
    with OllamaLibrary("0.0.0") as server:
        to_ollama(found, settings, told, server.url)
        to_ollama(found, settings, told, server.url)
        sent = [line for line in server.requests if line.startswith("POST /api/blobs")]
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("server", "error", "said"),
    [
        (OllamaLibrary(fails="unsupported tensor"), ModelCut, "reported an error in its reply: unsupported tensor"),
        (OllamaLibrary(breaks=True), ModelCut, "ended before it said that m is made"),
        (OllamaLibrary(template="{{ range .Messages }}{{ .Content }}{{ end }}"), ModelRefused, "another prompt for m"),
    ],
    ids=["error in the stream", "no success", "another template"],
)
def test_what_goes_wrong_at_ollama_is_an_error_and_no_deployment(
    found: Specialist, settings: Settings, told: list[str], server: OllamaLibrary, error: type[Exception], said: str
) -> None:
    with server, pytest.raises(error, match=said):
        to_ollama(found, settings, told, server.url)
    assert specialists.deployments(found, settings) == []


def test_an_ollama_that_does_not_show_its_prompt_is_told(
    found: Specialist, settings: Settings, told: list[str]
) -> None:
    with OllamaLibrary(shows=False) as server:
        to_ollama(found, settings, told, server.url)
    assert "this Ollama does not show the prompt that it renders, so that was not checked" in told


def test_an_ollama_that_is_not_there_is_told(found: Specialist, settings: Settings, told: list[str]) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        to_ollama(found, settings, told, f"http://127.0.0.1:{closed_port()}")


def test_a_refusal_comes_with_the_servers_own_sentence(
    found: Specialist, settings: Settings, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OllamaLibrary() as server:
        monkeypatch.setattr(server, "_create", lambda request: (400, b'{"error": "invalid model name"}'))
        with pytest.raises(ModelRefused, match="invalid model name"):
            to_ollama(found, settings, told, server.url)


@pytest.mark.llama
def test_ollamas_template_renders_the_training_prompt_token_for_token() -> None:
    """On the real base: what Go's template makes, and its tokens, against what the embedded runtime is asked."""
    import ctypes

    from agent.models.llama_context import Context

    base = find(Settings())
    template = deploy._check_template(base)
    context = Context(base, 2048, ctypes.create_string_buffer(2))
    try:
        for abstract in (ABSTRACT, *(row["abstract"] for row in tiny.ABSTRACTS[:3])):
            messages = attempt.prompt(framework.load("eight-moves"), abstract)
            shown = [{"Role": message.role, "Content": message.content} for message in messages]
            rendered = go_template.render(TEMPLATE, {"Messages": shown})
            assert rendered == deploy.render(template, messages) == deploy.chatml(messages)
            assert context.tokenize(rendered, special=True) == prompt_tokens(context, messages)
    finally:
        context.close()


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("a {{- range .M }} {{ .X }} {{- end }} b", "a 1 2 b"),
        ("{{ range .M -}}\n{{ .X }};{{ end }}", "1;2;"),
        ("{{ .N }}{{ range .E }}never{{ end }}!", "3!"),
    ],
)
def test_the_renderer_of_the_tests_follows_gos_rules(template: str, made: str) -> None:
    assert go_template.render(template, {"M": [{"X": 1}, {"X": 2}], "N": 3, "E": []}) == made


@pytest.mark.parametrize("template", ["{{ if .X }}{{ end }}", "{{ end }}"])
def test_the_renderer_of_the_tests_refuses_the_rest_of_go(template: str) -> None:
    with pytest.raises(ValueError, match=r"not known here|too many"):
        go_template.render(template, {"X": 1})


def test_a_candidate_is_not_deployed(weights: Path, settings: Settings, told: list[str]) -> None:
    candidate = registered.add(weights, 1, settings)
    with pytest.raises(UsageError, match="is a candidate that no gate let through"):
        to_ollama(candidate, settings, told, "http://127.0.0.1:1")


def test_under_local_only_nothing_is_sent_elsewhere(found: Specialist, settings: Settings, told: list[str]) -> None:
    strict = settings.model_copy(update={"privacy": "local-only"})
    with pytest.raises(ConsentDenied, match="privacy is local-only"):
        to_ollama(found, strict, told, "http://models.example:11434")


def test_a_base_with_another_chat_template_is_refused(
    weights: Path, settings: Settings, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import export

    folder = tiny.write_base(tmp_path / "base")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    export.model_gguf(folder, None, tmp_path / "base.gguf", "F16")
    monkeypatch.setenv("APPRENTICE_MODELS__LOCAL_PATH", str(tmp_path / "base.gguf"))
    with pytest.raises(InputError, match="is not ChatML"):
        deploy._check_template(tmp_path / "base.gguf")


@pytest.fixture
def server() -> Iterator[ModelsList]:
    with ModelsList(["tester", "other"]) as running:
        yield running


def to_server(found: Specialist, settings: Settings, told: list[str], url: str, model: str) -> deploy.Deployment:
    return asyncio.run(deploy.to_server(found, url, model, "Q8_0", at(settings, ""), told.append))


def test_a_server_that_lists_the_model_is_noted_with_its_file(
    found: Specialist, settings: Settings, told: list[str], server: ModelsList
) -> None:
    made = to_server(found, settings, told, server.url, "tester")
    assert made.address == f"openai@{server.url}:tester"
    assert Path(made.file).read_bytes()[:4] == b"GGUF"
    assert specialists.deployments(found, settings)[0]["file"] == made.file
    to_server(found, settings, told, server.url, "tester")
    assert told[-1] == f"{made.file} is there already"


def test_a_server_that_does_not_list_it_is_not_noted_and_the_file_is_there_to_be_served(
    found: Specialist, settings: Settings, told: list[str], server: ModelsList
) -> None:
    with pytest.raises(ModelUnavailable, match="does not serve mine; it lists tester, other") as raised:
        to_server(found, settings, told, server.url, "mine")
    assert "llama-server -m" in raised.value.hint
    assert list((Path(found.folder).parents[2] / "exports").glob("tester-1-*.gguf"))
    assert specialists.deployments(found, settings) == []
    with pytest.raises(ModelUnavailable, match="answered 404"):
        to_server(found, settings, told, f"{server.url}/v2", "mine")


def test_a_specialist_of_another_skill_is_probed_with_another_prompt(found: Specialist) -> None:
    other = Specialist(found.name, found.version, found.folder, {**found.card, "skill": "digest"})
    assert deploy.training_prompt(other) == deploy.PROBE
    assert isinstance(deploy.PROBE[0], Message)
