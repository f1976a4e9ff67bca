"""The YAML at the top of a README: found, and parsed without the tricks of YAML that blow up or hide a key."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from release.local_hub.plain_json import plain

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:^|\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
LIMIT = 256 << 10  # characters of YAML


def split_card(text: str) -> tuple[str | None, str]:
    """The YAML of the front matter (None if there is none) and the rest of a README."""
    found = _FRONT_MATTER.match(text)
    return (found.group(1), text[found.end() :]) if found else (None, text)


def parse_front_matter(front: str) -> Any:
    """Its value, made of what every answer can hold (dates become text). Raises ValueError saying what is wrong, and where."""
    if len(front) > LIMIT:
        raise ValueError(f"the metadata is longer than {LIMIT} characters")
    try:
        value = yaml.load(front, Loader=_Loader)
        return plain(json.loads(json.dumps(value, default=str)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""  # the opening --- is line 1
        raise ValueError(f"{getattr(error, 'problem', None) or error}{where}") from error
    except (RecursionError, TypeError) as error:
        raise ValueError("the metadata is nested too deeply, or has keys that are not text") from error


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # A few aliases of aliases are gigabytes when they are written out.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed in a card", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicated mapping key: {key}", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
