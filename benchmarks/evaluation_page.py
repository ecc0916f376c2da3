"""The page of `benchmarks/evaluation.py`: its tables, and a reading whose words follow the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gradcam_widget.methods import METHODS
from gradcam_widget.occlusion import rank_correlation

CENTRE = "a blob in the middle"
NEAR = 0.01  # what counts as equal
STUBBORN, BLIND = 0.4, 0.7  # rank correlations with the maps of random weights, and of other classes

COLUMNS: dict[str, tuple[str, str, bool]] = {
    # key: title, what it is, whether more is better
    "deletion": ("deletion", "area under the deletion curve", False),
    "insertion": ("insertion", "area under the insertion curve", True),
    "drop": ("drop", "average drop of the probability when the picture is multiplied with the heatmap", False),
    "road": ("ROAD", "lowest less highest pixels painted over, half of the mean difference", True),
    "occlusion": ("occlusion", "rank correlation of the heatmap with an occlusion map", True),
    "weights": ("weights", "rank correlation of the map with that of random weights, mean over the stages", False),
    "classes": ("classes", "rank correlation with the maps of random other classes, mean", False),
    "noise": ("noise", "largest change of the map under noise of ±0.1 in the input", False),
    "grid": ("grid", "share of the heatmap on the picture of its own class, in mosaics of four", True),
    "pointing": ("pointing", "share of the maxima that lie on the picture of their own class, in mosaics", True),
}

Table = dict[str, dict[str, float | None]]


def written(last: dict[str, Any], before: dict[str, Any]) -> str:
    """The page, of what was measured at the last layer and at the one before it."""
    return "".join([HEAD, table_of(last), NOTES, about(last), reading(last), second(before, last)])


HEAD = """# Are the maps true?

The methods of the table `METHODS` under the checks of `gradcam_widget.evaluate`, on the demo model
(EfficientNet-Lite0) and the sample pictures. Written by `make evaluate`; every number is computed, and the words
below follow the numbers.

"""

NOTES = "\n".join(f"- *{title}*: {what}." for title, what, _ in COLUMNS.values()) + "\n\n"


def means(raw: dict[str, Any]) -> Table:
    """Method -> column -> the mean of its numbers, in the order of `METHODS`."""
    found = {
        method: {name: mean(numbers) for name, numbers in row.items()} for method, row in raw["values"].items()
    }
    return {method: found[method] for method in (*METHODS, CENTRE) if method in found}


def table_of(raw: dict[str, Any]) -> str:
    """Methods by checks."""
    table = means(raw)
    lines = ["| method | " + " | ".join(f"{title} {'↑' if more else '↓'}" for title, _, more in COLUMNS.values())]
    lines[0] += " |"
    lines.append("|---|" + "---:|" * len(COLUMNS))
    best = {name: extreme(table, name) for name in COLUMNS}
    for method, row in table.items():
        cells = []
        for name in COLUMNS:
            value = row[name]
            text = "" if value is None else digits(value)
            cells.append(f"**{text}**" if value is not None and method in best[name] else text)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    random = np.mean(raw["random"], axis=0)
    cells = [digits(random[0]), digits(random[1]), *[""] * (len(COLUMNS) - 2)]
    lines.append("| random maps | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n"


def about(raw: dict[str, Any]) -> str:
    """What was measured on what."""
    pictures, mosaics = len(raw["predicted"]), raw["mosaics"]
    across, down = raw["cells"][::-1]
    return f"""Means over {pictures} pictures ({listed(list(raw["predicted"]))}), each for its predicted class, at
the layer `{raw["layer"]}` of {raw["channels"]} channels and {across} × {down} cells; {raw["stages"]} stages of
random weights, {raw["classes"]} other classes, noise {raw["tries"]} times; *grid* and *pointing* over
{f"{mosaics} mosaics" if mosaics > 1 else "one mosaic"} of four pictures. Curves of {raw["steps"]} steps, ROAD with
30 % and 70 % of the pixels, occlusion by 7 × 7 places, seed 0. ↑ more is better, ↓ less is; bold is the best
method, and those within {NEAR} of it. *{CENTRE}* is a Gaussian that knows nothing of the picture,
*random maps* are smooth random values.

"""


def column(table: Table, methods: Iterable[str], name: str) -> dict[str, float]:
    """Method -> its number in a column, of these methods, where it has one."""
    return {method: value for method in methods if (value := table[method][name]) is not None}


def extreme(table: Table, name: str) -> set[str]:
    """The methods with the best number, or one that is as good as it."""
    more = COLUMNS[name][2]
    found = column(table, [method for method in table if method != CENTRE], name)
    best = (max if more else min)(found.values())
    return {method for method, value in found.items() if near(value, best)}


def near(value: float, other: float) -> bool:
    """Whether two numbers, as they are printed, are as good as equal."""
    return value == other or abs(round(value, 2) - round(other, 2)) < NEAR + 1e-9


def digits(value: float) -> str:
    """A number with two digits, and a minus that is one."""
    return "∞" if np.isinf(value) else f"{value:.2f}".replace("-", "−")


def wins_of(table: Table) -> dict[str, int]:
    """Method -> in how many columns it is among the best."""
    bold = [extreme(table, name) for name in COLUMNS]
    return {method: sum(method in best for best in bold) for method in table if method != CENTRE}


def reading(raw: dict[str, Any]) -> str:
    """What the numbers say, and what they do not: a paragraph for each."""
    table = means(raw)
    methods = [method for method in table if method != CENTRE]
    paragraphs = [
        the_best(table),
        one_method_of_several_names(table),
        whether_columns_agree(table, methods),
        how_small_the_sample_is(raw, table, methods),
        against_the_blob(table),
        beside_random_maps(raw, table, methods),
        what_sanity_checks_find(table, methods),
        where_the_truth_is_known(raw, table, methods),
        beside(table, "AblationCAM", "GradCAM"),
    ]
    return "## Reading\n\n" + "\n\n".join(text for text in paragraphs if text) + "\n\n"


def the_best(table: Table) -> str:
    """Which methods are among the best most often, and that this is no ranking."""
    wins = wins_of(table)
    most = max(wins.values())
    first = [method for method, count in wins.items() if count == most]
    if most == len(COLUMNS):
        return f"**Among the best in every column**: {listed(first)}."
    return (
        f"**No method is best at everything.** {listed(first)} {'is' if len(first) == 1 else 'are'} among the "
        f"best in {most} of {len(COLUMNS)} columns, and no other in as many. A count of columns is no "
        "ranking, though."
    )


def one_method_of_several_names(table: Table) -> str:
    """Which methods are Grad-CAM at the last layer; empty where none is."""
    same = equal_to(table, "GradCAM")
    if not same:
        return ""
    return (
        f"**{listed(['GradCAM', *same])} have the same numbers in every column**: before global average "
        "pooling and one linear layer the gradient is the same in every cell, so there they are one method "
        "with several names. At other layers, and with other heads, they differ."
    )


def whether_columns_agree(table: Table, methods: list[str]) -> str:
    """How far the checks have one opinion."""
    agreement = agreement_of_columns(table, methods)
    verdict = "hardly agree" if agreement < 0.3 else "agree only in part" if agreement < 0.7 else "agree"
    return (
        f"**The checks {verdict} on which method is better**: taken two by two, their orders of the methods "
        f"have a rank correlation of {digits(agreement)} on average. Each asks something else; a single number is "
        "not the truth of a map."
    )


def how_small_the_sample_is(raw: dict[str, Any], table: Table, methods: list[str]) -> str:
    """In which columns pictures differ more than methods do."""
    within = [
        title
        for name, (title, _, _) in COLUMNS.items()
        if spread_of_pictures(raw, methods, name) > spread_of_methods(table, methods, name)
    ]
    return (
        f"**The sample is small.** It is {len(raw['predicted'])} pictures and one network. In {len(within)} of "
        f"{len(COLUMNS)} columns the numbers of one method differ more from picture to picture (standard "
        "deviation) than the methods' means differ from each other"
        f"{': ' + listed(within) if within else ''}. "
        "Differences of a few hundredths mean nothing here."
    )


def beside_random_maps(raw: dict[str, Any], table: Table, methods: list[str]) -> str:
    """How many methods are better than maps of nothing at deletion and insertion."""
    deletion, insertion = np.mean(raw["random"], axis=0)[:2]
    less = [value for value in column(table, methods, "deletion").values() if value < deletion]
    better = [value for value in column(table, methods, "insertion").values() if value > insertion]
    return (
        f"**Beside smooth random maps** (deletion {digits(deletion)}, insertion {digits(insertion)}) "
        f"{len(better)} of {len(methods)} methods are better at insertion and {len(less)} at deletion. Zeros in "
        "the place of pixels make pictures that no network was trained on; ROAD, which fills them in, asks the "
        "same with less of that."
    )


def what_sanity_checks_find(table: Table, methods: list[str]) -> str:
    """Which methods say little of the network, and which say little of the class."""
    stubborn = [m for m, value in column(table, methods, "weights").items() if value >= STUBBORN]
    blind = [m for m, value in column(table, methods, "classes").items() if value >= BLIND]
    of_weights = (
        f"**The sanity checks** single out {listed(stubborn)}, whose maps stay alike ({STUBBORN} or more) "
        "when the weights are random"
        if stubborn
        else f"**The sanity checks**: with random weights no method's map stays alike ({STUBBORN} or more)"
    )
    of_classes = (
        f", and {listed(blind)}, which give much the same map ({BLIND} or more) for any class. The first say "
        "little of what the network learnt, the second little of the class that was asked for, however right "
        "they look."
        if blind
        else f". And no method gives the same map ({BLIND} or more) for any class."
    )
    return of_weights + of_classes


def where_the_truth_is_known(raw: dict[str, Any], table: Table, methods: list[str]) -> str:
    """The best and the worst method in the mosaics, and what the network takes the pictures for."""
    grid = column(table, methods, "grid")
    top, low = max(grid, key=lambda m: grid[m]), min(grid, key=lambda m: grid[m])
    seen = "; ".join(f"{name}: {label} {p:.2f}" for name, (label, p) in raw["predicted"].items())
    return (
        f"**In the mosaics**, where the truth is known, shares on the right picture go from {digits(grid[low])} "
        f"({low}) to {digits(grid[top])} ({top}); by chance they would be 0.25. The mosaics are larger than what "
        "the network is used to, and not every predicted class is right: the maps are those of what the network "
        f"takes the pictures for, with these probabilities: {seen}."
    )


def against_the_blob(table: Table) -> str:
    """In which columns a map that looks at nothing does well."""
    beaten = {}
    for name, (title, _, more) in COLUMNS.items():
        own = table[CENTRE][name]
        if own is not None:
            values = column(table, [m for m in table if m != CENTRE], name).values()
            beaten[title] = sum((own > value) if more else (own < value) for value in values), len(values)
    strong = [f"{title} ({count} of {of})" for title, (count, of) in beaten.items() if count > of / 2]
    return (
        "**A blob in the middle, which looks at nothing, is hard to beat on photographs whose object is in the "
        f"middle**: it does better than most methods at {listed(strong)}. These columns reward what photographers "
        "do, too."
        if strong
        else f"**A blob in the middle, which looks at nothing, is beaten by most methods** in all {len(beaten)} "
        "columns that can be measured of it."
    )


def second(raw: dict[str, Any], last: dict[str, Any]) -> str:
    """ScoreCAM and all others at a layer that it can afford, with the reading of it."""
    table = means(raw)
    wins = wins_of(table)
    most = [method for method in wins if wins[method] == max(wins.values())]
    easy = [m for m in most if (table[m]["weights"] or 0) >= STUBBORN or (table[m]["classes"] or 0) >= BLIND]
    text = f"""## With Score-CAM

Score-CAM runs the whole model once for each channel that is not flat, of {last["channels"]} for one map at the
layer above. So it is measured at a layer of {raw["channels"]} channels, on fewer pictures, and the other methods
that this layer allows are measured **there again, on the same pictures**. Numbers of this table are to be set
beside each other, not beside those of the first.

"""
    alike = equal_to(table, "GradCAM")
    parts = [
        beside(table, "ScoreCAM", "GradCAM"),
        f"**Most often among the best** {'is' if len(most) == 1 else 'are'} {listed(most)} (in "
        f"{max(wins.values())} of {len(COLUMNS)} columns; ScoreCAM in {wins['ScoreCAM']})."
        + (
            f" The maps of {listed(easy)} stay alike ({STUBBORN} or more) when the weights are random, or are "
            f"much the same ({BLIND} or more) for any class: the other columns do not notice."
            if easy
            else ""
        ),
        against_the_blob(table),
        (
            f"**At this layer {listed(['GradCAM', *alike])} have the same numbers, as at the last one.**"
            if alike
            else "**At this layer no other method has the numbers of GradCAM**: what follows it is no longer "
            "pooling and one linear layer."
        )
        + f" The pictures are only {len(raw['predicted'])}: *pointing* counts {4 * raw['mosaics']} maxima, so its "
        f"steps are {1 / (4 * raw['mosaics']):.2f}.",
    ]
    if any(value == np.inf for row in table.values() for value in row.values()):
        parts.append(
            "*∞* stands for a map that is empty, and no longer is when there is noise: no share says how "
            "much that is."
        )
    return text + table_of(raw) + about(raw) + "\n\n".join(parts) + "\n"


def equal_to(table: Table, method: str) -> list[str]:
    """The other methods whose numbers print as this one's in every column."""
    shown = {m: [None if value is None else digits(value) for value in row.values()] for m, row in table.items()}
    return [m for m in table if m != method and shown[m] == shown[method]]


def beside(table: Table, method: str, other: str) -> str:
    """A method that needs many passes beside another, column by column."""
    better, worse, equal = [], [], []
    for name, (title, _, more) in COLUMNS.items():
        value, reference = table[method][name], table[other][name]
        if value is None or reference is None:
            continue
        gain = (value - reference) * (1 if more else -1)
        both = f"{title} ({digits(value)}, {other} {digits(reference)})"
        if near(value, reference):
            equal.append(title)
        else:
            (better if gain > 0 else worse).append(both)
    return (
        f"**{method} beside {other}**, for {METHODS[method].passes} where {other} takes {METHODS[other].passes}: "
        f"better at {listed(better)}; worse at {listed(worse)}; within {NEAR} at {listed(equal)}."
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def agreement_of_columns(table: Table, methods: list[str]) -> float:
    """The mean rank correlation of two columns, both turned so that more is better."""
    found = []
    for at, (one, (_, _, more)) in enumerate(COLUMNS.items()):
        for other, (_, _, other_more) in list(COLUMNS.items())[at + 1 :]:
            pairs = [(table[m][one], table[m][other]) for m in methods]
            values = np.array([pair for pair in pairs if None not in pair], float)
            rho = rank_correlation(values[:, 0], values[:, 1])
            if rho is not None:
                found.append(rho if more == other_more else -rho)
    return float(np.mean(found))


def spread_of_pictures(raw: dict[str, Any], methods: list[str], name: str) -> float:
    """The standard deviation over the pictures, mean over the methods."""
    rows = [[value for value in raw["values"][m][name] if value is not None] for m in methods]
    return float(np.mean([np.std(row, ddof=1) for row in rows if len(row) > 1]))


def spread_of_methods(table: Table, methods: list[str], name: str) -> float:
    """The standard deviation of the methods' means."""
    return float(np.std([*column(table, methods, name).values()], ddof=1))


def listed(words: Sequence[str]) -> str:
    """Words in a row: a, b and c; none where there is none."""
    if len(words) < 2:
        return words[0] if words else "none"
    return f"{', '.join(words[:-1])} and {words[-1]}"
