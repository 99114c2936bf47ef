"""Traces an evaluation and its vector-Jacobian product, and cuts their graph in two.

What the second half needs of the first is saved where it is the result of a matrix product, a
convolution, a reduction or a transcendental function, and computed again from those where it is
arithmetic or a view: inductor fuses that into the kernels that read it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["cut", "traced"]

_ARITHMETIC = (
    *("add", "clamp", "clamp_max", "clamp_min", "div", "eq", "ge", "gt", "le", "lt", "maximum"),
    *("minimum", "mul", "ne", "neg", "reciprocal", "relu", "rsub", "sign", "square", "sub"),
    *("where", "_to_copy", "abs", "sgn", "addcmul", "threshold_backward", "tanh_backward"),
    *("full", "full_like", "ones_like", "scalar_tensor", "zeros_like", "new_zeros", "zeros"),
)
_VIEWS = (
    *("_unsafe_view", "alias", "as_strided", "diagonal", "expand", "permute", "select", "slice"),
    *("split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view"),
)
_CHEAP = frozenset(getattr(torch.ops.aten, name) for name in (*_ARITHMETIC, *_VIEWS))


def traced(function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor]) -> GraphModule:
    """The operations of a function, its own use of autograd included, in functional form."""
    module = make_fx(function)(*arguments)
    if any(_writes(node) for node in module.graph.nodes):
        module = make_fx(functionalize(module))(*arguments)
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()
    return module


def cut(whole: GraphModule, inputs: int, outputs: int) -> tuple[GraphModule, GraphModule]:
    """Returns the halves.

    Arguments:
        whole: Its placeholders are those of the first half, then those of the second; so are its
            results.
        inputs: How many placeholders are those of the first half.
        outputs: How many results are those of the first half.

    Returns:
        The first half, inputs -> (outputs..., saved...); the second, (all inputs..., saved...) ->
        its outputs.
    """
    places = [node for node in whole.graph.nodes if node.op == "placeholder"]
    results: Sequence[Node] = next(n for n in whole.graph.nodes if n.op == "output").args[0]
    late = _downstream(whole.graph, places[inputs:])
    # What the second half takes from the first, and how far up its cheap operations go.
    taken = [source for node in late for source in node.all_input_nodes]
    frontier = _upstream(
        [node for node in (*taken, *results[outputs:]) if node not in late],
        lambda node: node.op == "placeholder" or not _is_cheap(node),
    )
    saved = [n for n in whole.graph.nodes if n in frontier and n.op != "placeholder"]
    first = _part(whole, places[:inputs], [*results[:outputs], *saved])
    second = _part(whole, [*places, *saved], results[outputs:])
    return first, second


def _writes(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_cheap(node: Node) -> bool:
    if node.target is operator.getitem:
        return _is_cheap(node.args[0])  # type: ignore[arg-type]
    return getattr(node.target, "overloadpacket", None) in _CHEAP


def _downstream(graph: Graph, starts: Iterable[Node]) -> set[Node]:
    """`starts` and all that is computed from them; the graph's nodes stand in order."""
    nodes = set(starts)
    for node in graph.nodes:
        if node.op != "output" and not nodes.isdisjoint(node.all_input_nodes):
            nodes.add(node)
    return nodes


def _upstream(nodes: Iterable[Node], stop: Callable[[Node], bool]) -> set[Node]:
    """The nodes at which the ways up from `nodes` stop."""
    stops, seen, todo = set(), set(), list(nodes)
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if stop(node):
            stops.add(node)
        else:
            todo += node.all_input_nodes
    return stops


def _part(whole: GraphModule, places: Sequence[Node], results: Sequence[Node]) -> GraphModule:
    """The part of a graph from some of its nodes to others."""
    graph, copies = Graph(), {}
    for node in places:
        copies[node] = graph.placeholder(node.name)
        copies[node].meta = dict(node.meta)
    between = _between(places, results)
    for node in whole.graph.nodes:
        if node in between:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in results))
    return GraphModule(whole, graph)


def _between(places: Iterable[Node], results: Iterable[Node]) -> set[Node]:
    """What must be computed to get from `places` to `results`."""
    known, nodes, todo = set(places), set(), list(results)
    while todo:
        node = todo.pop()
        if node not in known and node not in nodes:
            nodes.add(node)
            todo += node.all_input_nodes
    return nodes
