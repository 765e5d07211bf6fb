"""Tools: typed Python functions, their JSON schemas, and the registry that finds and runs them.

A tool is an async function whose first parameter is the `ToolContext` and whose docstring is what the model reads:

    @tool(effect="read", concurrent=True)
    async def read_file(context: ToolContext, path: str, start: int = 1) -> str:
        '''Read a text file.

        Args:
            path: the file, relative to the workspace.
            start: the first line to show, counted from 1.
        '''

A user's own tool is one such file in the `tools` folder beside their config.toml.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from agent.consent import Consent
from agent.errors import ConfigError, ToolError
from agent.messages import Json
from agent.redact import Redactor
from agent.settings import Settings
from tools.workspace import Workspace

if TYPE_CHECKING:
    from agent.run import Run

Effect = Literal["read", "write", "shell", "net", "mcp"]
BUILT_IN = ("files", "shell", "web", "arxiv", "beads", "todo", "notes", "delegate")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may use."""

    workspace: Workspace
    consent: Consent
    settings: Settings
    redactor: Redactor
    outputs: Path
    """The folder for the rest of outputs that are too long to show."""
    cache: Path
    run: Run | None = None
    """The run that the call is a part of."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. `concurrent`: it may run beside others of the same turn.

    `parameters` are a pydantic model, or a JSON schema where the tool is somebody else's (an MCP server's).
    """

    name: str
    description: str
    parameters: type[BaseModel] | Json
    run: Callable[..., Awaitable[str]]
    effect: Effect
    concurrent: bool
    origin: str
    outside: bool = False
    """Its output comes from outside the workspace (pages, papers, MCP): see agent/taint.py."""

    @property
    def schema(self) -> Json:
        """The OpenAI-style function schema. Its parameters are made once, and shared: who changes them copies them."""
        given = self.parameters
        schema = given if isinstance(given, dict) else _json_schema(given)
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": schema},
        }


def tool(
    *, effect: Effect, concurrent: bool = False, outside: bool = False
) -> Callable[[Callable[..., Awaitable[str]]], Tool]:
    """Make a tool of an async function.

    Raises:
        TypeError: at import: the function is not async, or a parameter has no type or no line of doc.
    """

    def make(function: Callable[..., Awaitable[str]]) -> Tool:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"tool {function.__name__} must be an async function")
        description, notes = _docstring(function)
        fields: dict[str, Any] = {}
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        for parameter in parameters:
            if parameter.annotation is parameter.empty or parameter.name not in notes:
                raise TypeError(f"tool {function.__name__}: {parameter.name} needs a type and a line under Args")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, Field(default, description=notes[parameter.name]))
        with warnings.catch_warnings():  # a parameter may be called `json` or `copy`, as a method of BaseModel is
            warnings.filterwarnings("ignore", "Field name .* shadows an attribute", UserWarning)
            model = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
        return Tool(function.__name__, description, model, function, effect, concurrent, function.__module__, outside)

    return make


def load(folders: Iterable[Path], disabled: Iterable[str] = (), without: Iterable[str] = ()) -> dict[str, Tool]:
    """The built-in tools and those in these folders (the user's, a trusted project's), by name, less the disabled ones.

    Args:
        folders: where tool files are.
        disabled: names of tools.
        without: built-in families that are of no use here, and not imported.

    Raises:
        ConfigError: a user's tool file fails to import, or takes the name of a built-in tool.
    """
    tools: dict[str, Tool] = {}
    for family in (family for family in BUILT_IN if family not in without):
        module = importlib.import_module(f"tools.{family}")
        tools.update(_tools_of(module))
    for path in (path for folder in folders for path in sorted(folder.glob("*.py"))):
        for name, found in _tools_of(_import_file(path)).items():
            if name in tools:
                raise ConfigError(f"{path}: the tool {name!r} exists already", "Give it another name.")
            tools[name] = found
    return {name: found for name, found in tools.items() if name not in set(disabled)}


async def call(found: Tool, context: ToolContext, arguments: Json) -> str:
    """Check the arguments and run the tool, if no rule is against it. What is longer than `tools.output_limit` goes
    into a file.

    Raises:
        ToolError: the arguments do not fit; the message says which and why, for the model to read. Or the tool, which
            may be anybody's, answered with something that is no text.
        ApprenticeError: what the tool itself raises.
    """
    checked = validate(found, arguments)
    context = replace(context, consent=await context.consent.for_call(found.name, found.effect, arguments))
    output: object = await found.run(context, **checked)
    if not isinstance(output, str):
        raise ToolError(f"{found.name} answered with {type(output).__name__}, and a tool answers with text")
    if len(output) <= context.settings.tools.output_limit or found.origin in {f"tools.{name}" for name in BUILT_IN}:
        return output  # those keep to the limit themselves
    from tools.output import shown

    return await asyncio.to_thread(shown, context, found.name, output)


def validate(found: Tool, arguments: Json) -> dict[str, Any]:
    """The arguments as Python values. Raises ToolError if they do not fit the tool's schema."""
    if isinstance(found.parameters, dict):
        return _validate_raw(found.name, found.parameters, arguments)
    try:
        checked = found.parameters.model_validate(arguments)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()]
        known = ", ".join(found.parameters.model_fields) or "none"
        raise ToolError(f"{found.name} was not run: {'; '.join(problems)}", f"Its arguments are: {known}.") from None
    return {name: getattr(checked, name) for name in found.parameters.model_fields}


def _validate_raw(name: str, schema: Json, arguments: Json) -> Json:
    """The arguments, if they fit a JSON schema. Nothing is fetched for it, and a `pattern` is left to whoever wrote it:
    Python cannot interrupt a regular expression."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    kind = validators.extend(Draft202012Validator, {"pattern": None, "patternProperties": None})
    try:
        errors = list(kind(schema, registry=Registry()).iter_errors(arguments))
    except Exception:  # the schema is somebody else's and may be none: whoever wrote it checks the arguments
        return arguments
    if errors:
        found = [f"{'.'.join(map(str, error.path)) or 'arguments'}: {error.message}"[:300] for error in errors[:5]]
        known = ", ".join(schema.get("properties", {})) or "none"
        raise ToolError(f"{name} was not run: {'; '.join(found)}", f"Its arguments are: {known}.")
    return arguments


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The description and the line for each parameter, from a docstring with an Args section."""
    text = inspect.cleandoc(function.__doc__ or "")
    if not text:
        raise TypeError(f"tool {function.__name__} needs a docstring: it is what the model reads")
    head, _, rest = text.partition("\nArgs:\n")
    args = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    notes = {
        name: " ".join(note.split()) for name, note in re.findall(r"(?m)^ {4}(\w+): ((?:.*\n?)(?: {5,}.*\n?)*)", args)
    }
    return " ".join(head.split()), notes


@cache
def _json_schema(parameters: type[BaseModel]) -> Json:
    """The parameters' schema. Remembered: making it takes a millisecond, and every run asks for that of every tool."""
    schema: Json = _plain(parameters.model_json_schema())
    return schema


def _plain(schema: Any) -> Any:
    """The schema without pydantic's titles, which cost tokens and say nothing."""
    if isinstance(schema, dict):
        properties = schema.get("properties", {})
        return {
            key: ({name: _plain(entry) for name, entry in properties.items()} if key == "properties" else _plain(value))
            for key, value in schema.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_plain(entry) for entry in schema] if isinstance(schema, list) else schema


def _tools_of(module: Any) -> dict[str, Tool]:
    """The tools that a module makes; not those that it imports, to call them."""
    made = [entry for entry in vars(module).values() if isinstance(entry, Tool)]
    return {entry.name: entry for entry in made if entry.origin == module.__name__}


def _import_file(path: Path) -> Any:
    from agent.trust import import_file

    return import_file(path, f"user_tools_{path.stem}", "tool file")
