"""What the autograd graph tells: which tensors cut it in two, and how much of the input a cell can see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

__all__ = ["Dominators", "nodes_below", "reach", "receptive_field"]


class Dominators:
    """For each of some nodes, those of them that every path from the root to it runs through, nearest first.

    A node is one autograd function, the root the one of the model's output. Dominators of a directed acyclic
    graph in one sweep in topological order (Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm", 2001).

    Args:
        root: ``grad_fn`` of the output.
        nodes: ``grad_fn`` of the tensors that may be asked about; None (a leaf) dominates nothing.
    """

    def __init__(self, root: Any, nodes: Sequence[Any]) -> None:
        order, users, several = _sweep(root)
        position = {node: index for index, node in enumerate(order)}
        above: dict[Any, Any] = {root: root}
        for node in order[1:]:
            above[node] = _meet(users[node], above, position)
        self._root, self._nodes, self._above = root, nodes, above
        self._at: dict[Any, list[int]] = {}
        for index, node in enumerate(nodes):
            # A function with several outputs is crossed by paths that do not pass through this one.
            if node in above and node not in several:
                self._at.setdefault(node, []).append(index)

    def of(self, index: int) -> Iterator[int]:
        """Indices into ``nodes`` of the dominators of ``nodes[index]``, nearest first, itself included."""
        node = self._nodes[index]
        if node not in self._above:
            return
        yield from self._at.get(node, ())
        while node is not self._root:
            node = self._above[node]
            yield from self._at.get(node, ())


def nodes_below(root: Any) -> list[Any]:
    """All nodes that lead to the root, itself first, each before those that lead to it."""
    return _sweep(root)[0]


def reach(nodes: Sequence[Any]) -> list[int]:
    """For each of some nodes, which of them lie below it, towards the leaves, as the bits of a number.

    Nodes that are the same have no bit of each other; None, a leaf, has nothing below it.
    """
    own: dict[Any, int] = {}
    for index, node in enumerate(nodes):
        if node is not None:
            own[node] = own.get(node, 0) | 1 << index
    below: dict[Any, int] = {}
    for start in own:
        stack = [start]
        while stack:
            node = stack[-1]
            children = [child for child, _ in node.next_functions if child is not None]
            waiting = [child for child in children if child not in below]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if node not in below:
                bits = 0
                for child in children:
                    bits |= below[child] | own.get(child, 0)
                below[node] = bits
    return [0 if node is None else below[node] for node in nodes]


def _sweep(root: Any) -> tuple[list[Any], dict[Any, list[Any]], set[Any]]:
    """Nodes from the root down in topological order, who uses each, and those with several outputs in use."""
    users: dict[Any, list[Any]] = {root: []}
    several: set[Any] = set()
    finished: list[Any] = []
    stack: list[tuple[Any, Iterator[tuple[Any, int]]]] = [(root, iter(root.next_functions))]
    while stack:
        node, edges = stack[-1]
        for child, index in edges:
            if child is None:
                continue
            if index:
                several.add(child)
            if child in users:
                users[child].append(node)
                continue
            users[child] = [node]
            stack.append((child, iter(child.next_functions)))
            break
        else:
            finished.append(node)
            stack.pop()
    return finished[::-1], users, several


def _meet(nodes: list[Any], above: dict[Any, Any], position: dict[Any, int]) -> Any:
    first = nodes[0]
    for second in nodes[1:]:
        a, b = first, second
        while a is not b:
            if position[a] > position[b]:
                a = above[a]
            else:
                b = above[b]
        first = a
    return first


_LOCAL = (
    "Add", "Alias", "BatchNorm", "Cat", "Celu", "Clamp", "Clone", "ConstantPad", "CudnnBatchNorm", "Div",
    "Dropout", "Elu", "Exp", "Gelu", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "Log",
    "MiopenBatchNorm", "Mish", "Mul", "NativeBatchNorm", "NativeDropout", "Neg", "Permute", "Pow", "Prelu",
    "Relu", "Rsqrt", "Select", "Selu", "Sigmoid", "Silu", "Slice", "Softplus", "Split", "Sqrt", "Squeeze", "Sub",
    "Swish", "Tanh", "Threshold", "ToCopy", "Transpose", "UnsafeView", "Unsqueeze", "View",
)  # fmt: skip
"""Functions that leave places where they are: their autograd nodes' names begin so."""

_EVERYTHING = float("inf")
_Field = tuple[tuple[float, ...], tuple[int, ...]]
"""(field, stride) of a node's output, per axis in input pixels; both empty for parameters."""
_NOTHING: _Field = ((), ())


def receptive_field(
    tensor: Tensor, source: Tensor, seen: dict[Any, _Field | None] | None = None
) -> tuple[int, ...] | None:
    """Input pixels per axis that one cell of ``tensor`` can see, read off the autograd graph; None if unknown.

    Along a path from the cell to the input, a window of k cells with dilation d widens the field by (k-1) * d
    times the stride of its input; several paths give the widest, a mean over the picture gives all of it.

    Args:
        tensor: a feature map.
        source: the input, (1, C, *size), a leaf that requires a gradient.
        seen: what was found for the nodes of the same graph before; it is filled.
    """
    node = tensor.grad_fn
    if node is None:
        return None
    found = _walk(node, source, {} if seen is None else seen)
    if found is None or not found[0]:
        return None
    return tuple(int(min(field, size)) for field, size in zip(found[0], source.shape[2:], strict=True))


def _walk(node: Any, source: Tensor, seen: dict[Any, _Field | None]) -> _Field | None:
    stack = [node]
    while stack:
        current = stack[-1]
        parents = [parent for parent, _ in current.next_functions if parent is not None]
        waiting = [parent for parent in parents if parent not in seen]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if current not in seen:
            seen[current] = _step(current, [seen[parent] for parent in parents], source)
    return seen[node]


def _step(node: Any, parents: list[_Field | None], source: Tensor) -> _Field | None:
    name, spatial = type(node).__name__, source.ndim - 2
    if name == "AccumulateGrad":
        return ((1,) * spatial, (1,) * spatial) if node.variable is source else _NOTHING
    inside = [parent for parent in parents if parent != _NOTHING]
    if not inside:
        return _NOTHING
    if None in inside:
        return None
    fields, strides = zip(*(parent for parent in inside if parent is not None), strict=True)
    field, stride = tuple(map(max, *fields, fields[0])), tuple(map(max, *strides, strides[0]))
    window = _window(node, name, spatial)
    if window is not None:
        if min(map(len, window)) < spatial:
            return None  # a convolution along something else, such as the channels
        # Pooling along one axis runs as two-dimensional pooling over an axis of length 1.
        kernel, step, dilation = (tuple(axes)[-spatial:] for axes in window)
        field = tuple(f + (k - 1) * d * s for f, k, d, s in zip(field, kernel, dilation, stride, strict=True))
        return field, tuple(s * t for s, t in zip(stride, step, strict=True))
    if _mixes_places(node, name):
        return (_EVERYTHING,) * spatial, stride
    if name.startswith(_LOCAL) or name == "NativeLayerNormBackward0":
        return field, stride
    return None


def _mixes_places(node: Any, name: str) -> bool:
    """Whether a node mixes the whole picture: global means, and norms that use the picture's statistics."""
    if name.startswith(("MeanBackward", "NativeGroupNorm")):
        # Dimensions are saved as unsigned numbers; a mean over channels alone leaves places where they are.
        return getattr(node, "_saved_dim", None) not in ((1,), [1])
    if "BatchNorm" in name:
        return bool(getattr(node, "_saved_training", False))
    return name == "NativeLayerNormBackward0" and len(node._saved_normalized_shape) > 1


def _window(node: Any, name: str, spatial: int) -> tuple[Sequence[int], Sequence[int], Sequence[int]] | None:
    """(kernel, stride, dilation) of a convolution or pooling node, or None for any other."""
    ones = (1,) * spatial
    if name == "ConvolutionBackward0" and not node._saved_transposed:
        return node._saved_weight.shape[2:], node._saved_stride, node._saved_dilation
    if name.startswith("MaxPool") and "WithIndices" in name:
        return node._saved_kernel_size, node._saved_stride or node._saved_kernel_size, node._saved_dilation
    if name.startswith("AvgPool"):
        return node._saved_kernel_size, node._saved_stride or node._saved_kernel_size, ones
    return None
