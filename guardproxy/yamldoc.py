"""A YAML text that knows the line of every field. Reads no file and knows no policy."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guardproxy.errors import PolicyError

MAX_CHARS = 4_000_000
Place = tuple[str | int, ...]
JsonSchema = dict[str, Any]
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
R = TypeVar("R")


def suggest(word: str, known: Iterable[str]) -> str:
    """What was meant perhaps, as the end of an error message."""
    listed = sorted(known)
    close = difflib.get_close_matches(word, listed, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(listed)}"


def spell(place: Place) -> str:
    """`("guards", 2, "threshold")` as `guards[2].threshold`."""
    out = ""
    for step in place:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else str(step)
    return out


class Document:
    """A parsed YAML text.

    Args:
        text: YAML.
        path: Named in errors.
        fault: What is raised.
    """

    def __init__(self, text: str, path: object, fault: type[Exception] = PolicyError) -> None:
        self._path = path
        self._fault = fault
        if len(text) > MAX_CHARS:
            raise fault(f"{path}: at most {MAX_CHARS} characters, got {len(text)}")
        try:
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            self._refuse_twice(self._root)
            self.value: object = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise fault(f"{path}:{line}: not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise fault(f"{path}:1: not valid YAML: {error}") from None

    def validate(self, model: type[M]) -> M:
        """The document as a model.

        Raises:
            Exception: The document's fault, with the first error's line and field.
        """
        if not isinstance(self.value, dict):
            raise self._fault(f"{self._path}:1: expected a mapping, got {type(self.value).__name__}")
        try:
            return model.model_validate(self.value)
        except ValidationError as error:
            # An unknown key explains a missing one: tell it first.
            details = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
            raise self.error(details["loc"], told(details, model)) from None

    def build(self, make: Callable[[T], R], read: T, place: Place) -> R:
        """Call `make`, and give a `ValueError` of it the line of `place`."""
        try:
            return make(read)
        except ValueError as error:
            raise self.error(place, str(error)) from None

    def error(self, place: Place, message: str) -> Exception:
        """`file:line: field: message`."""
        return self._fault(f"{self._path}:{self.line(place)}: {spell(place)}: {message}")

    def line(self, place: Place) -> int:
        """The line of a field, or of the nearest one around it."""
        node, line = self._root, 1
        for step in place:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line

    def _refuse_twice(self, root: yaml.Node | None) -> None:
        waiting, seen = [root], set()
        while waiting:
            node = waiting.pop()
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                keys: set[str] = set()
                for key, value in node.value:
                    if str(key.value) in keys:
                        raise self._fault(f"{self._path}:{key.start_mark.line + 1}: {key.value}: given twice")
                    keys.add(str(key.value))
                    waiting.append(value)
            elif isinstance(node, yaml.SequenceNode):
                waiting.extend(node.value)


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None


def told(error: ErrorDetails, model: type[BaseModel]) -> str:
    """An error of validation in a few words: what was expected and what came."""
    if error["type"] == "extra_forbidden":
        return f"unknown key{suggest(str(error['loc'][-1]), _siblings(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return "required"
    got = error["input"]
    shown = f", got {got!r}" if isinstance(got, (str, int, float, bool, type(None))) else ""
    text = error["msg"][0].lower() + error["msg"][1:]
    return f"{text}{shown}"[:300]


def _siblings(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that a mapping at this place may have, read off the JSON Schema."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    here: JsonSchema = schema
    for step in place:
        here = _resolve(here, definitions)
        here = here.get("items", {}) if isinstance(step, int) else here.get("properties", {}).get(step, {})
    return list(_resolve(here, definitions).get("properties", {}))


def _resolve(schema: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema:
    alternatives: list[JsonSchema] = [schema, *schema.get("anyOf", ())]
    for one in alternatives:
        if "$ref" in one:
            return definitions[str(one["$ref"]).rpartition("/")[2]]
    return next((one for one in alternatives if one.get("type") == "array"), schema)
