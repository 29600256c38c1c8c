"""A part of an ONNX graph, cut without the onnx package: what leads to some of its outputs.

ONNX Runtime runs every node of a graph, whichever outputs are asked for (its `only_execute_path_to_fetches` has no
effect in the published packages, up to 1.32).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from personsearch.core.engines.protobuf import Field, fields, to_varint

# Numbers of onnx.proto
GRAPH = 7  # of ModelProto
NODE, INITIALISER, INPUT, OUTPUT, VALUE = 1, 5, 11, 12, 13  # of GraphProto
NODE_INPUT, NODE_OUTPUT = 1, 2
NAME = {INITIALISER: 8, INPUT: 1, OUTPUT: 1, VALUE: 1}  # of TensorProto, else of ValueInfoProto


def cut_graph(model: bytes, outputs: Collection[str]) -> bytes:
    """The model with only those outputs, and the nodes and weights that they need; inputs stay.

    For graphs whose nodes hold no graphs of their own (If, Loop), as this project writes them.
    """
    parts = []
    for field in fields(model):
        if field.number == GRAPH:
            graph = b"".join(_kept(model, field, set(outputs)))
            parts += [to_varint(GRAPH << 3 | 2), to_varint(len(graph)), graph]
        else:
            parts.append(model[field.start : field.end])
    return b"".join(parts)


def _kept(model: bytes, graph: Field, outputs: set[str]) -> Iterator[bytes]:
    """The fields of the graph that stay, as they are."""
    members = list(fields(model, graph.begin, graph.end))
    needed, nodes = set(outputs), set()
    for member in reversed([m for m in members if m.number == NODE]):  # nodes stand behind what they read
        if needed & set(_texts(model, member, NODE_OUTPUT)):
            nodes.add(member.start)
            needed |= set(_texts(model, member, NODE_INPUT))
    for member in members:
        if member.number == NODE:
            keep = member.start in nodes
        elif member.number == OUTPUT:
            keep = next(_texts(model, member, NAME[OUTPUT])) in outputs
        elif member.number in (INITIALISER, VALUE):
            keep = next(_texts(model, member, NAME[member.number])) in needed
        else:
            keep = True
        if keep:
            yield model[member.start : member.end]


def _texts(model: bytes, message: Field, number: int) -> Iterator[str]:
    for field in fields(model, message.begin, message.end):
        if field.number == number:
            yield model[field.begin : field.end].decode()
