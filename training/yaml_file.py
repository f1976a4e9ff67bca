"""YAML files parsed into typed, closed objects; an error names the file, the line, the key and what was expected.

Recipes (training), suites (evals) and policies (release) are all read here:

    class Recipe(Settings): base: str; steps: int = 100
    recipe = load(Path("recipe.yaml"), Recipe, overrides=["steps=20"])
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import UsageError


class Settings(BaseModel):
    """Base of what is read from YAML: unknown keys and wrong types are refused, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


S = TypeVar("S", bound=Settings)


def load(path: Path, cls: type[S], overrides: Sequence[str] = ()) -> S:
    """Read `path` as a `cls`, with `key.subkey=value` overrides from the command line on top.

    Raises UsageError naming file and line for bad YAML, an unknown key or a wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no such file: {path}",
            where=str(path),
            found="nothing",
            next_step="give the path of a YAML file",
        ) from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(
            "not a YAML text file", where=str(path), found=str(error), next_step="give the path of a YAML file"
        ) from error
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader) if node is not None else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise UsageError(
            f"not valid YAML: {getattr(error, 'problem', error)}",
            where=where,
            found=_text_at(text, mark.line if mark else 0),
            next_step="correct the line",
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            "the file must be a mapping of keys to values",
            where=f"{path}, line 1",
            found=type(value).__name__,
            next_step="begin with a key and a colon",
        )
    origins = {}
    for override in overrides:
        origins.update(_apply(value, override))
    return parse(value, cls, lambda keys: origins.get(keys) or f"{path}, line {_line(node, keys)}")


def parse(value: dict[str, Any], cls: type[S], where: Any = None) -> S:
    """`value` as a `cls`; `where(keys)` says where the key path stands, for the error."""
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        keys = tuple(
            key for key in first["loc"] if isinstance(key, int) or _is_key(value, key) or key == first["loc"][-1]
        )
        place = where(keys) if where else None
        dotted = ".".join(str(key) for key in keys)
        if first["type"] == "extra_forbidden":
            known = _fields_at(cls, keys[:-1])
            close = difflib.get_close_matches(str(keys[-1]), known, n=1)
            raise UsageError(
                f"unknown key '{dotted}'",
                where=place,
                expected="one of " + ", ".join(sorted(known)),
                found=str(keys[-1]),
                next_step=f"did you mean '{close[0]}'?" if close else "remove the key",
            ) from error
        if first["type"] == "missing":
            raise UsageError(
                f"the key '{dotted}' is missing",
                where=place,
                expected="the keys " + ", ".join(_required_at(cls, keys[:-1])),
                found=", ".join(map(str, first["input"])) or "no keys",
                next_step="add the key",
            ) from error
        if not dotted:  # a rule of the whole file, not of one key
            raise UsageError(
                "the keys do not go together",
                where=place,
                expected=first["msg"].removeprefix("Value error, "),
                found=", ".join(map(str, first["input"])),
                next_step="correct the keys; behind a command, key=null takes one of the recipe's away",
            ) from error
        raise UsageError(
            f"wrong value for '{dotted}'",
            where=place,
            expected=first["msg"],
            found=repr(first.get("input"))[:120],
            next_step="correct the value",
        ) from error


def line_of(path: Path, keys: tuple[Any, ...]) -> int:
    """The 1-based line of a key path in a YAML file that was read already, or of the deepest part of it that is there."""
    return _line(yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader), keys)


def _text_at(text: str, line: int) -> str:
    """The line of a text, counted from 0; the last one where it ends before."""
    lines = text.splitlines() or [""]
    return repr(lines[min(line, len(lines) - 1)])[:120]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats (1e-5 is a number, where YAML 1.1 reads a string), and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key}' stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(
        r"^[-+]?(\d+\.\d*([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.\d+([eE][-+]?\d+)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _apply(value: dict[str, Any], override: str) -> dict[tuple[Any, ...], str]:
    """Set one `a.b=value` (value read as YAML) in place; return where that key now comes from."""
    dotted, separator, text = override.partition("=")
    if not separator or not dotted:
        raise UsageError(
            "an override is not of the form key=value",
            found=override,
            next_step="write a key and a value, e.g. seed=1 or lora.r=8",
        )
    keys = tuple(dotted.split("."))
    target = value
    for key in keys[:-1]:
        child = target.setdefault(key, {})
        if not isinstance(child, dict):
            raise UsageError(f"'{key}' in the override '{override}' has no keys beneath it", found=repr(child))
        target = child
    target[keys[-1]] = yaml.load(text, Loader=_Loader)
    return {keys: f"the override '{override}'"}


def _is_key(value: Any, key: Any) -> bool:
    """Whether `key` occurs as a mapping key anywhere in `value` (pydantic's locations also name union branches)."""
    if isinstance(value, dict):
        return key in value or any(_is_key(child, key) for child in value.values())
    return isinstance(value, list) and any(_is_key(child, key) for child in value)


def _line(node: yaml.Node | None, keys: tuple[Any, ...]) -> int:
    """The 1-based line of the key path, or of the deepest part of it that is there."""
    line = node.start_mark.line if node is not None else 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for key_node, child in node.value:
                if key_node.value == str(key):
                    line, node = key_node.start_mark.line, child
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _fields_at(cls: type[BaseModel], keys: tuple[Any, ...]) -> list[str]:
    """The names of the fields that `cls` allows under the key path."""
    model = _model_at(cls, keys)
    return list(model.model_fields) if model else []


def _required_at(cls: type[BaseModel], keys: tuple[Any, ...]) -> list[str]:
    """The names of those that must be there."""
    model = _model_at(cls, keys)
    return [name for name, field in model.model_fields.items() if field.is_required()] if model else []


def _model_at(cls: type[BaseModel], keys: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model class under the key path."""
    current: type[BaseModel] | None = cls
    for key in keys:
        if isinstance(key, int):
            continue
        field = current.model_fields.get(key) if current else None
        current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found:
            return found
    return None
