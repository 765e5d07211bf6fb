"""Families of simulated tools: a table of records, and the tools that read and change it. Data in `families/`.

A family belongs to one split; training has a folder of them, by subject, and composed ones beside them. The tools of
one family are near neighbours: they share the table, and differ in what they do with it.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict

from agent.messages import Json
from evals.simulated.composed import composed
from evals.simulated.pools import WORDS, Split
from evals.simulated.values import FORMS, Value, draw, type_of

FOLDER = Path(__file__).parent / "families"
FEW = 8
"""Values of a kind that a schema may name one by one."""
RECORDS = 4
"""Records of a family's table."""
Row = dict[str, Value]
Does = Literal["look_up", "search", "create", "change", "remove", "calculate"]


class Spec(BaseModel):
    """One tool.

    Args:
        name, text: as the model reads them.
        does: what it does with the table; see `evals.simulated.world`.
        takes: its parameters: fields of the table, or of `more`.
        gives: the fields that a look-up answers with.
        more: parameters that are no fields, with their kinds.
        optional: those of `takes` that are given only where the person says something of them.
        says: how a person asks for it, with the parameters in braces.
        lacks: by parameter, how a person asks who forgets that one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    text: str
    does: Does
    takes: tuple[str, ...]
    gives: tuple[str, ...] = ()
    more: dict[str, str] = {}
    optional: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    lacks: dict[str, str] = {}

    @property
    def required(self) -> list[str]:
        """The parameters that every call gives."""
        return [parameter for parameter in self.takes if parameter not in self.optional]


class Family(BaseModel):
    """A table and its tools.

    Args:
        name: of the family.
        key: the field that tells records apart.
        ref: how a person names a record, with the key in braces.
        prefix: of the numbers that new records get.
        fields: the kinds of a record's fields.
        private: fields that a look-up shows though nobody asks for them: what is personal stays out of answers.
        tools: what there is to call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    key: str
    ref: str
    prefix: str
    fields: dict[str, str]
    private: dict[str, str] = {}
    tools: tuple[Spec, ...]

    def kind(self, spec: Spec, parameter: str) -> str:
        """The kind of a tool's parameter."""
        return spec.more.get(parameter) or self.fields[parameter]

    def spec(self, name: str) -> Spec:
        return next(spec for spec in self.tools if spec.name == name)

    def _property(self, parameter: str, kind: str) -> Json:
        """A parameter's schema. Half of training's tools name the values, where there are few."""
        found: Json = {"type": type_of(kind), "description": parameter.replace("_", " ")}
        values = WORDS[kind].split(",") if kind in WORDS else []
        told = 0 < len(values) <= FEW and Random(f"{self.name} {parameter}").random() < 0.5
        return found | {"enum": values} if told else found

    def function(self, spec: Spec, text: str = "") -> Json:
        """The function schema in OpenAI's form; `text` is said instead of the tool's own."""
        kinds = [self.kind(spec, parameter) for parameter in spec.takes]
        forms = [FORMS[kind] for kind in dict.fromkeys(kinds) if kind in FORMS]
        properties = {
            parameter: self._property(parameter, kind) for parameter, kind in zip(spec.takes, kinds, strict=True)
        }
        parameters = {"type": "object", "properties": properties, "required": spec.required}
        description = " ".join([text or spec.text, *forms])
        return {
            "type": "function",
            "function": {"name": spec.name, "description": description, "parameters": parameters},
        }


@lru_cache(maxsize=4)
def families(split: Split) -> dict[str, Family]:
    """The families of a split, by name; for training also composed ones."""
    paths = sorted((FOLDER / "train").glob("*.toml")) if split == "train" else [FOLDER / f"{split}.toml"]
    entries = [entry for path in paths for entry in tomllib.loads(path.read_text(encoding="utf-8"))["family"]]
    names = {tool["name"] for entry in entries for tool in entry["tools"]}
    found = [Family.model_validate(entry) for entry in [*entries, *(composed(names) if split == "train" else [])]]
    return {family.name: family for family in found}


def table(family: Family, split: Split, chance: Random) -> list[Row]:
    """The records of a family, their keys all different."""
    rows: dict[str, Row] = {}
    while len(rows) < RECORDS:
        row = {key: draw(kind, split, chance) for key, kind in (family.fields | family.private).items()}
        rows[str(row[family.key].given)] = row
    return list(rows.values())
