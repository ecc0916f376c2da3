"""What is true of the pictures: the class of each, where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

from gradcam_widget.targets import class_index
from gradcam_widget.widget.state import nearest

__all__ = ["true_classes"]


def true_classes(labels: object, pictures: Sequence[str], class_names: Sequence[str] | None) -> list[int | None]:
    """The index of the true class of each picture, None where it is not known.

    Args:
        labels: one class (an int or a class name) for all pictures, a list with one for each, or a dict
            picture name -> class; None where the class is not known.
        pictures: their names, in order.
        class_names: of the model, where it has some.

    Raises:
        TypeError: for what is no class.
        ValueError: for an unknown class or picture, or a list that does not fit the pictures.
    """
    if labels is None or isinstance(labels, str | Integral):
        return [_class_of(labels, class_names)] * len(pictures)
    if isinstance(labels, Mapping):
        unknown = [str(name) for name in labels if str(name) not in pictures]
        if unknown:
            raise ValueError(f"labels: there is no picture named {unknown[0]!r}. {nearest(unknown[0], pictures)}")
        known = {str(name): _class_of(label, class_names) for name, label in labels.items()}
        return [known.get(name) for name in pictures]
    # Whatever holds one after the other will do: a list, an array, a tensor.
    if isinstance(labels, Sequence) or hasattr(labels, "tolist"):
        listed = labels if isinstance(labels, Sequence) else labels.tolist()
        if isinstance(listed, Sequence):
            if len(listed) != len(pictures):
                raise ValueError(
                    f"labels: expected one class for each of the {len(pictures)} pictures; got {len(listed)}. "
                    "Give None where a class is not known"
                )
            return [_class_of(label, class_names) for label in listed]
        return [_class_of(listed, class_names)] * len(pictures)
    raise TypeError(
        "labels: expected a class (an int or a name), a list with one for each picture, or a dict picture name -> "
        f"class; got {type(labels).__name__}"
    )


def _class_of(label: object, class_names: Sequence[str] | None) -> int | None:
    if label is None:
        return None
    if isinstance(label, str):
        try:
            return class_index(label, class_names)
        except ValueError as error:
            raise ValueError(str(error).replace("target:", "labels:", 1)) from error
    if isinstance(label, Integral) and not isinstance(label, bool):
        if int(label) < 0 or (class_names and int(label) >= len(class_names)):
            most = f" to {len(class_names) - 1}" if class_names else ""
            raise ValueError(f"labels: the classes are numbered from 0{most}; got {int(label)}")
        return int(label)
    raise TypeError(f"labels: expected a class as an int or a name, or None; got {type(label).__name__}")
