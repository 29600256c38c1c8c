"""YAML as text: safe, with every kind of fault as one error, and a key that stands twice is a fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"
_UNREADABLE = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError)  # `2020-13-45`, `!!bool maybe`


_SURPRISING = re.compile(r"[-+]?(?:(?P<octal>0[0-7_]+$)|[0-9_]+:)")
MOST_VALUES = 100_000  # of a document, each counted as often as aliases repeat it


class YamlFault(Exception):
    """What is wrong, and in which line (from 1 on)."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.line = line


def parse_yaml(text: str) -> tuple[yaml.Node | None, Any]:
    """The document's tree, with lines, and its value; both None for an empty document. Raises YamlFault."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _refuse_multitudes(node)
        _refuse_twins(node)
        _refuse_unreadable(loader, node)
        return node, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlFault(f"not valid YAML: {error.problem or error.context}", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        line = text.count("\n", 0, error.position) + 1
        raise YamlFault(f"not valid YAML: the character U+{code:04X} is not allowed", line) from None
    except RecursionError:
        raise YamlFault("not valid YAML: nested too deeply") from None


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once, aliases and circles included."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting += _parts(node)


def _refuse_multitudes(root: yaml.Node) -> None:
    """Ten lines of aliases of aliases stand for more values than a memory holds, and a circle for endless ones."""
    sizes: dict[int, int] = {}  # by node; 0 while what is in it is counted
    waiting = [(root, False)]
    while waiting:
        node, counted = waiting.pop()
        parts = _parts(node)
        if counted:
            sizes[id(node)] = size = 1 + sum(sizes[id(part)] for part in parts)
            if size > MOST_VALUES:
                line = node.start_mark.line + 1
                raise YamlFault(f"aliases or lists make more than {MOST_VALUES:,} values of it", line)
        elif id(node) not in sizes:
            sizes[id(node)] = 0
            waiting += [(node, True), *((part, False) for part in parts)]
        elif not sizes[id(node)]:
            raise YamlFault("an alias stands inside of what it repeats", node.start_mark.line + 1)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_twins(root: yaml.Node) -> None:
    """Later keys would silently replace earlier ones. Merge keys (`<<`) may repeat: each adds something."""
    for node in _nodes(root):
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                both = f"lines {lines[name]} and {line}" if lines[name] != line else f"line {line}"
                raise YamlFault(f"'{key.value}' stands twice, in {both}; keep one of them", line)
            lines[name] = line


def _refuse_unreadable(loader: yaml.SafeLoader, root: yaml.Node) -> None:
    """Dates without such a day, `!!int ""` and the like: PyYAML raises whatever Python says of them."""
    for node in _nodes(root):
        if isinstance(node, yaml.ScalarNode) and node.tag != MERGE:
            try:
                loader.construct_object(node)
            except _UNREADABLE:
                line = node.start_mark.line + 1
                kind = node.tag.rpartition(":")[2]
                raise YamlFault(f"not valid YAML: '{node.value[:60]}' cannot be read as {kind}", line) from None
            if node.tag.endswith((":int", ":float")) and (other := _SURPRISING.match(node.value)):
                why = (
                    "that begins with 0 is octal (010 is 8)"
                    if other["octal"]
                    else "with a colon has base 60 (1:30 is 90)"
                )
                fault = f"a number {why} in YAML; write it as a plain number, or as text in quotes"
                raise YamlFault(fault, node.start_mark.line + 1)
