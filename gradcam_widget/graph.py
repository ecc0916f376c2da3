"""What the autograd graph tells: which tensors cut it in two, and how much of the input a cell can see."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Dominators", "Field", "frontier", "nodes_below", "reach", "receptive_field"]


class Dominators:
    """For each of some nodes, those of them that every path from the root to it runs through, nearest first.

    A node is one autograd function, the root the one of the model's output. Dominators of a directed acyclic
    graph in one sweep in topological order (Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm", 2001).

    Args:
        root: ``grad_fn`` of the output.
        nodes: ``grad_fn`` of the tensors that may be asked about; None (a leaf) dominates nothing.

    Attributes:
        users: of each node below the root, the nodes that read it, once for each time.
    """

    def __init__(self, root: Any, nodes: Sequence[Any]) -> None:
        order, users, several = _sweep(root)
        position = {node: index for index, node in enumerate(order)}
        above: dict[Any, Any] = {root: root}
        for node in order[1:]:
            above[node] = _meet(users[node], above, position)
        self.users = users
        self._root, self._nodes, self._above = root, nodes, above
        self._at: dict[Any, list[int]] = {}
        for index, node in enumerate(nodes):
            # A function with several outputs is crossed by paths that do not pass through this one.
            if node in above and node not in several:
                self._at.setdefault(node, []).append(index)

    def has_one_output(self, index: int) -> bool:
        """Whether all that reads the function of ``nodes[index]`` reads this one output of it."""
        return index in self._at.get(self._nodes[index], ())

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


def frontier(
    nodes: Sequence[Any], stops: Collection[Any], users: Mapping[Any, Sequence[Any]]
) -> tuple[set[Any], set[Any]] | None:
    """Of some nodes, the stops, the first that are met on all ways from ``nodes`` towards the root, and the nodes
    on those ways before them; None where a way leads to the root past all stops, or not to the root.

    Args:
        nodes: where the ways begin.
        stops: where they may end.
        users: of each node of the graph the nodes that read it; the root has none.
    """
    found: set[Any] = set()
    passed: set[Any] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node in stops:
            found.add(node)
        elif node not in passed:
            passed.add(node)
            above = users.get(node)
            if not above:
                return None
            waiting.extend(above)
    return found, passed


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


class Field(NamedTuple):
    """What the cells of a feature map see of the input, in input pixels per axis.

    Attributes:
        start, stop: where the first cell's receptive field begins, and the first pixel after it; outside of the
            picture where padding is seen, and infinite where the whole picture is.
        stride: from a cell's field to the next one's.
    """

    start: tuple[float, ...]
    stop: tuple[float, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> tuple[float, ...]:
        """How much one cell sees."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))


_NOTHING = Field((), (), ())
"""That of parameters."""


def receptive_field(tensor: Tensor, source: Tensor, seen: dict[Any, Field | None] | None = None) -> Field | None:
    """What the cells of ``tensor`` see of ``source``, read off the autograd graph; None if unknown.

    Along a path from the cell to the input, a window of k cells with dilation d widens the field by (k-1) * d
    times the stride of its input; several paths see what each of them does, a mean over the picture all of it.

    Args:
        tensor: a feature map.
        source: the input, (1, C, *size), a leaf that requires a gradient.
        seen: what was found for the nodes of the same graph before; it is filled.
    """
    node = tensor.grad_fn
    if node is None:
        return None
    found = _walk(node, source, {} if seen is None else seen)
    return None if found == _NOTHING else found


def _walk(node: Any, source: Tensor, seen: dict[Any, Field | None]) -> Field | None:
    stack = [] if node in seen else [(node, _parents(node))]
    while stack:
        current, parents = stack[-1]
        waiting = [(parent, _parents(parent)) for parent in parents if parent not in seen]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if current not in seen:
            seen[current] = _step(current, [seen[parent] for parent in parents], source)
    return seen[node]


def _parents(node: Any) -> list[Any]:
    return [parent for parent, _ in node.next_functions if parent is not None]


def _step(node: Any, parents: list[Field | None], source: Tensor) -> Field | None:
    name, spatial = type(node).__name__, source.ndim - 2
    if name == "AccumulateGrad":
        return Field((0,) * spatial, (1,) * spatial, (1,) * spatial) if node.variable is source else _NOTHING
    inside = [parent for parent in parents if parent != _NOTHING]
    if not inside:
        return _NOTHING
    known = [parent for parent in inside if parent is not None]
    if len(known) < len(inside):
        return None
    field = known[0] if len(known) == 1 else _around(known)
    window = _window(node, name, spatial)
    if window is not None:
        return None if min(map(len, window)) < spatial else _widened(field, window, spatial)
    if _mixes_places(node, name):
        return Field((-_EVERYTHING,) * spatial, (_EVERYTHING,) * spatial, field.stride)
    if name.startswith("ConstantPad"):
        # Named from the last axis on: how many cells before and after.
        before = list(node._saved_pad[0 : 2 * spatial : 2])
        return _moved(field, [-cells for cells in reversed(before + [0] * (spatial - len(before)))])
    if name.startswith("Slice") and _is_of_places(node, spatial):
        axis = node._saved_dim - 2
        length = node._saved_self_sym_sizes[node._saved_dim]
        first = node._saved_start + length if node._saved_start < 0 else node._saved_start
        moved = _moved(field, [first if at == axis else 0 for at in range(spatial)])
        return moved._replace(
            stride=tuple(s * node._saved_step if at == axis else s for at, s in enumerate(moved.stride))
        )
    if name.startswith(_LOCAL) or name == "NativeLayerNormBackward0":
        return field
    return None


def _around(fields: Sequence[Field]) -> Field:
    """What is seen by all of some fields together."""
    return Field(
        tuple(map(min, zip(*(one.start for one in fields), strict=True))),
        tuple(map(max, zip(*(one.stop for one in fields), strict=True))),
        tuple(map(max, zip(*(one.stride for one in fields), strict=True))),
    )


def _widened(field: Field, window: tuple[Sequence[int], ...], spatial: int) -> Field:
    """The field after a window of (kernel, step, dilation, padding) along each axis."""
    # Pooling along one axis runs as two-dimensional pooling over an axis of length 1.
    kernel, step, dilation, padding = (tuple(axes)[-spatial:] for axes in window)
    moved = _moved(field, [-cells for cells in padding])
    reach = ((k - 1) * d * s for k, d, s in zip(kernel, dilation, field.stride, strict=True))
    return Field(
        moved.start,
        tuple(stop + more for stop, more in zip(moved.stop, reach, strict=True)),
        tuple(s * t for s, t in zip(field.stride, step, strict=True)),
    )


def _moved(field: Field, cells: Sequence[int]) -> Field:
    """The field where another cell is the first one, so many cells away along each axis."""
    by = [cell * stride for cell, stride in zip(cells, field.stride, strict=True)]
    start, stop = (tuple(at + d for at, d in zip(edge, by, strict=True)) for edge in (field.start, field.stop))
    return Field(start, stop, field.stride)


def _is_of_places(node: Any, spatial: int) -> bool:
    """Whether a slice is along an axis of the picture; with the channels last that cannot be told."""
    return len(node._saved_self_sym_sizes) == spatial + 2 and node._saved_dim >= 2


def _mixes_places(node: Any, name: str) -> bool:
    """Whether a node mixes the whole picture: global means, and norms that use the picture's statistics."""
    if name.startswith(("MeanBackward", "NativeGroupNorm")):
        # Dimensions are saved as unsigned numbers; a mean over channels alone leaves places where they are.
        return getattr(node, "_saved_dim", None) not in ((1,), [1])
    if "BatchNorm" in name:
        return bool(getattr(node, "_saved_training", False))
    return name == "NativeLayerNormBackward0" and len(node._saved_normalized_shape) > 1


def _window(node: Any, name: str, spatial: int) -> tuple[Sequence[int], ...] | None:
    """(kernel, stride, dilation, padding) of a convolution or pooling node, or None for any other."""
    ones = (1,) * spatial
    if name == "ConvolutionBackward0" and not node._saved_transposed:
        return node._saved_weight.shape[2:], node._saved_stride, node._saved_dilation, node._saved_padding
    if name.startswith("MaxPool") and "WithIndices" in name:
        kernel, dilation = node._saved_kernel_size, node._saved_dilation
        return kernel, node._saved_stride or kernel, dilation, node._saved_padding
    if name.startswith("AvgPool"):
        return node._saved_kernel_size, node._saved_stride or node._saved_kernel_size, ones, node._saved_padding
    return None
