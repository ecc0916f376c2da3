"""Which target and which record the arguments mean, once the model has run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gradcam_widget.arguments import check_class, named_class, split_call
from gradcam_widget.layers import nearest_names
from gradcam_widget.targets import BinaryLogit, ClassLogit, Target
from gradcam_widget.trace import Record, Trace

__all__ = ["NO_MAPS", "check_names", "find_record", "is_side_head", "settle_target"]

NO_MAPS = (
    "model: no module's output is a feature map with a gradient, (1, K, h, w) or tokens that form a grid, for "
    "this picture; Grad-CAM needs at least one, such as the output of a convolution. If an output can be read "
    "as maps in a way that its shape does not tell, say how with GradCAM(model, layout=...)"
)


def settle_target(target: Target | None, output: Tensor, names: Sequence[str] | None) -> Target:
    """The target that was meant, once the output for one picture is known.

    Raises:
        ValueError: where the target does not fit the output.
    """
    if target is not None and not isinstance(target, ClassLogit):
        return target
    if output.ndim > 1:
        raise ValueError(
            f"target: the model's output for one picture is {tuple(output.shape)}, not (num_classes,); "
            "give a target: gradcam_widget.targets.Region for segmentation, or a function of your own"
        )
    if output.numel() == 1:
        return _side(target, output, names)
    check_names(names, output.numel())
    if target is None:
        return named_class(int(output.argmax()), names)
    check_class(target.index, output.numel())
    return target


def check_names(names: Sequence[str] | None, count: int) -> None:
    """Raise ValueError for names of another number of classes than the model has; one score may have two names."""
    if names and len(names) != count and count > 1:
        raise ValueError(
            f"class_names: got {len(names)} names for a model with {count} classes; give one for each, in the "
            "order of the scores, or none for numbers"
        )


def _side(target: ClassLogit | None, output: Tensor, names: Sequence[str] | None) -> Target:
    """The target for a head with one score: class 1 is its positive side, class 0 the other if both have names."""
    if target is None:
        return BinaryLogit(bool(output >= 0))
    if names and len(names) == 2:
        check_class(target.index, 2)
        return BinaryLogit(target.index == 1)
    check_class(target.index, 1)
    return BinaryLogit()


def find_record(place: str | nn.Module, trace: Trace) -> Record:
    """The record of a call of a module.

    Raises:
        ValueError: for one that gave no feature map.
    """
    call = 1
    if isinstance(place, nn.Module):
        module = place
        name = next(name for name, other in trace.model.named_modules() if other is place)
    elif place in trace.by_name:
        return trace.by_name[place]
    else:
        path, number = split_call(place, dict(trace.model.named_modules(remove_duplicate=False)))
        module, name, call = trace.model.get_submodule(path), place, int(number or 1)
    calls = [record for record in trace.records if record.module is module]
    for record in calls:
        if record.call == call:
            return record
    if calls:
        raise ValueError(
            f"layer: for this picture that module gave a feature map in {len(calls)} call(s); got {name!r}. "
            f"Use one of {', '.join(repr(record.name) for record in calls[:4])}"
        )
    if not trace.records:
        raise ValueError(NO_MAPS)
    raise ValueError(
        f"layer: {name or 'the model itself'!r} gave no feature map for this picture: it did not run, or its "
        "output is no (1, K, h, w) tensor, or grid of tokens, with a gradient. cam.layers(image) lists what "
        "there is; GradCAM(model, layout=...) tells how other outputs are read; "
        f"{nearest_names(name, [record.name for record in trace.records])}"
    )


def is_side_head(trace: Trace, record: Record) -> bool:
    """Whether a record is class scores by place beside the way to the output, as of an auxiliary head."""
    scores = trace.output[0]
    return scores.ndim == 1 and record.shape[0] == scores.numel() > 1 and not trace.is_on_every_path(record)
