"""Figures: colours and bars by hand, sizes in inches, and names that are drawn as they are."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from gradcam_widget import figures, lettering, render
from gradcam_widget.captions import number
from gradcam_widget.explanation import Explanation
from gradcam_widget.layers import Layer
from gradcam_widget.targets import ClassLogit

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "<script>alert(1)</script>",
    "$\\frac{1}{$",
    "x_{2}^$3$ & \"quoted\" 'too' &lt;b&gt;",
    "]]><!-- --><svg onload=alert(1)>",
    "{} %s \\n {0.__class__}",
)


def explanation(name: str = "cat", layer: str = "body.2", **changes: object) -> Explanation:
    # Three channels on a grid of 2 x 2, alpha = (2, -4, 1), mean activations (1, 0.5, 0): the contributions are
    # (2, -2, 0). The signed map is given; its maximum is 4, its magnitude at most 8.
    maps = torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1).repeat(1, 2, 2)
    values = Explanation(
        layer=Layer(layer, "conv", (3, 2, 2)),
        target=ClassLogit(7, name),
        method="GradCAM",
        score=8.314,
        probability=0.25,
        alpha=torch.tensor([2.0, -4.0, 1.0]),
        signed_cam=torch.tensor([[4.0, 0.0], [1.0, -8.0]]),
        picture=(8, 8),
        diagnosis=None,
        diagnosis_code=None,
        guided=None,
        smooth=None,
        _maps=maps,
    )
    return replace(values, **changes)


def grey(value: int = 100) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def axes_of(figure: Figure, label: str):
    return [axes for axes in figure.axes if axes.get_label() == label]


def bars_of(figure: Figure) -> list[list[float]]:
    return [
        [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
        for axes in axes_of(figure, "bars")
    ]


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def pixels(figure: Figure, dpi: float = 100) -> np.ndarray:
    with Image.open(io.BytesIO(figures.encode_figure(figure, "png", dpi))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def at(figure: Figure, label: str, x: float, y: float, dpi: float = 100) -> np.ndarray:
    """The colour at a place in axes, 0 to 1 from their upper left corner."""
    image = pixels(figure, dpi)
    box = axes_of(figure, label)[0].get_position()
    column = (box.x0 + x * box.width) * image.shape[1]
    row = (1 - box.y1 + y * box.height) * image.shape[0]
    return image[int(row), int(column)]


# -- what is drawn ---------------------------------------------------------------------------------------------


def test_the_corners_have_the_colours_of_their_cells():
    figure = explanation().figure(grey(), opacity=0.5)
    # The cam is ReLU of the map: 4 (the maximum), 0, 1 and 0. In the corners the enlarged map is that of the
    # cells, so its shares are 1, 0, 0.25, 0; the heat is mixed in by 0.5 * min(1, 2 * share): 0.5, 0, 0.25, 0.
    table = render.table("viridis").astype(int)
    expected = {
        (0.05, 0.05): 0.5 * 100 + 0.5 * table[255],
        (0.95, 0.05): np.array([100, 100, 100]),
        (0.05, 0.95): 0.75 * 100 + 0.25 * table[64],
        (0.95, 0.95): np.array([100, 100, 100]),
    }
    for (x, y), colour in expected.items():
        assert np.abs(at(figure, "picture", x, y) - colour).max() <= 2, (x, y)


def test_signed_evidence_has_two_sides_and_a_fixed_limit_is_the_end_of_the_scale():
    figure = explanation().figure(grey(), evidence="signed", opacity=1.0)
    table = render.table("RdBu_r").astype(int)
    # The magnitude is 8 at most: 4 is half of it, where the heat is whole; its place is
    # (0.5 + 1) / 2 of the table.
    assert np.abs(at(figure, "picture", 0.05, 0.05) - table[191]).max() <= 2
    assert np.abs(at(figure, "picture", 0.95, 0.95) - table[0]).max() <= 2
    assert {"8.00", "for", "0", "against", "−8.00"} <= set(texts_of(figure))
    fixed = explanation().figure(grey(), limit=16, opacity=1.0)
    # 4 / 16 = 0.25 of the scale: mixed in by one half.
    viridis = render.table("viridis").astype(int)
    assert np.abs(at(fixed, "picture", 0.05, 0.05) - (50 + viridis[64] / 2)).max() <= 2
    assert {"16.0", "scale", "0"} <= set(texts_of(fixed))


def test_the_bars_are_alpha_in_the_order_asked_for():
    # |α|: 4, 2, 1; α: 2, 1, -4; |contribution|: 2, 2, 0, the first two equal and therefore in their order.
    expected = {
        "|α|": [-4, 2, 1],
        "alpha": [2, 1, -4],
        "contribution": [2, -4, 1],
        "channel": [2, -4, 1],
    }
    for sort, values in expected.items():
        assert bars_of(explanation().figure(sort=sort)) == [values], sort
    two = explanation().figure(channels=2)
    assert bars_of(two) == [[-4, 2]]
    words = " ".join(texts_of(two))
    assert "mean gradient of the target per channel: the 2 of 3 channels with the largest |α|" in words
    numbers = [text for text in texts_of(two) if text[0] in "#+−"]
    assert numbers == ["#1", "−4.0", "#0", "+2.0"]
    (bars,) = axes_of(two, "bars")
    colours = [patch.get_facecolor()[:3] for patch in bars.patches]
    assert colours[0][2] > colours[0][0]  # against: blue
    assert colours[1][0] > colours[1][2]  # for: orange


def test_the_title_and_the_caption_say_what_it_is():
    words = texts_of(explanation().figure(model="ResNet"))
    assert "Grad-CAM for cat" in words
    assert "αₖ at body.2" in words
    assert "ResNet · body.2 (conv, 3 × 2 × 2) · cat: score 8.31, probability 0.250 · Grad-CAM." in words


def test_an_empty_map_is_said_in_words_and_has_no_scale():
    empty = explanation(
        signed_cam=-torch.ones(2, 2), diagnosis="No positive evidence.", diagnosis_code="no_positive"
    )
    figure = empty.figure(grey(90))
    assert axes_of(figure, "scale") == []
    assert (at(figure, "picture", 0.5, 0.5) == 90).all()
    assert "No positive evidence." in " ".join(texts_of(figure))


def test_a_guided_map_is_grey_where_it_is_0():
    guided = torch.zeros(3, 8, 8)
    guided[0, :4] = 2.0  # red in the upper half, 99.5 % of the magnitudes are 2 at most
    figure = explanation(method="GuidedGradCAM", guided=guided).figure(grey())
    assert at(figure, "picture", 0.5, 0.25).tolist() == [255, 128, 128]
    assert at(figure, "picture", 0.5, 0.75).tolist() == [128, 128, 128]
    assert {"2.00", "−2.00"} <= set(texts_of(figure))


def test_a_box_is_outlined():
    figure = explanation(signed_cam=torch.zeros(2, 2)).figure(grey(0), box=(2, 2, 6, 6))
    # The left edge of the box is at a quarter of the picture: dark, with white on either side.
    image = pixels(figure, 200)
    box = axes_of(figure, "picture")[0].get_position()
    row = int((1 - (box.y0 + box.y1) / 2) * image.shape[0])
    left, right = (int((box.x0 + box.width * share) * image.shape[1]) for share in (0.2, 0.3))
    line = image[row, left:right, 0]
    assert line.max() > 240
    assert (line[[0, -1]] == 0).all()


def test_several_panes_stand_side_by_side_with_bars_on_one_scale():
    plate = figures.plate_of(explanation(), grey())
    (first,) = plate.panes
    second = replace(first, title="second", alpha=first.alpha / 2, signed=True, colormap="RdBu_r")
    figure = figures.draw(replace(plate, panes=(first, second, first)))
    pictures = axes_of(figure, "picture")
    assert len(pictures) == 3
    assert len({round(axes.get_position().y0, 6) for axes in pictures}) == 1
    assert bars_of(figure) == [[-4, 2, 1], [-2, 1, 0.5], [-4, 2, 1]]
    assert {axes.get_xlim() for axes in axes_of(figure, "bars")} == {(-4.0, 4.0)}


def test_channels_that_are_off_are_hollow_and_the_kept_one_is_marked():
    plate = replace(figures.plate_of(explanation(), grey()), off=frozenset({1}), kept=0)
    figure = figures.draw(plate)
    (bars,) = axes_of(figure, "bars")
    faces = [patch.get_facecolor()[3] for patch in bars.patches]
    assert faces == [0, 1, 1]
    assert "hollow: left out of the map" in " ".join(texts_of(figure))
    (kept,) = axes_of(figure, "kept")
    assert kept.get_position().y1 == pytest.approx(bars.get_position().y1 - bars.get_position().height / 3)


def test_sizes_are_in_inches_and_nothing_leaves_the_page():
    long = explanation("a class with a rather long name, " * 4, "features.denseblock4.denselayer16.conv2")
    for width in (3.4, 7.0):
        figure = long.figure(grey(), width=width)
        assert figure.get_figwidth() == width
        assert pixels(figure, 150).shape[1] == round(width * 150)
        renderer = figure.canvas.get_renderer()
        page = figure.bbox
        for text in figure.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= -1, text.get_text()
            assert box.x1 <= page.x1 + 1, text.get_text()
            assert box.y0 >= 0, text.get_text()
            assert box.y1 <= page.y1, text.get_text()


@pytest.mark.parametrize("width", [3.0, 3.4, 5.0, 7.0])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(64, 64), (20, 200), (200, 20)])
def test_no_words_lie_over_others_and_none_leave_the_page(width, count, size):
    plate = replace(figures.plate_of(explanation(), grey()), picture=np.full((*size, 3), 128, np.uint8))
    (first,) = plate.panes
    signed = replace(first, title="second", signed=True, colormap="RdBu_r", ends=("for", "against"), limit=0.184)
    figure = figures.draw(replace(plate, panes=(first, signed, first)[:count]), width=width)
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts if text.get_text()]
    for index, (words, box) in enumerate(boxes):
        assert -1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, words
        assert -1 <= box.y0 <= box.y1 <= figure.bbox.y1 + 1, words
        for others, other in boxes[:index]:
            apart = box.x0 >= other.x1 or other.x0 >= box.x1 or box.y0 >= other.y1 - 1 or other.y0 >= box.y1 - 1
            assert apart, (words, others)
    for axes in figure.axes:
        place = axes.get_position()
        assert min(place.x0, place.y0) >= 0, axes.get_label()
        assert max(place.x1, place.y1) <= 1, axes.get_label()
    assert len(bars_of(figure)) == count


def test_a_comparison_in_one_column_stands_below_one_another():
    plate = figures.plate_of(explanation(), grey())
    (first,) = plate.panes
    second = replace(first, title="second", alpha=first.alpha / 2)
    figure = figures.draw(replace(plate, panes=(first, second)), width=3.3)
    upper, lower = axes_of(figure, "picture")
    assert upper.get_position().y0 > lower.get_position().y1
    assert bars_of(figure) == [[-4, 2, 1], [-2, 1, 0.5]]
    for picture, bars in zip((upper, lower), axes_of(figure, "bars"), strict=True):
        assert bars.get_position().x0 > picture.get_position().x1
        assert bars.get_position().width > 0.1


@pytest.mark.parametrize(
    ("value", "text"),
    # as the view writes them (words.js)
    [
        (0, "0"),
        (0.41234, "0.412"),
        (12.345, "12.3"),
        (-0.00053, "−0.000530"),
        (2.914e-6, "2.91e−6"),
        (1234.5, "1234"),
        (123456, "1.23e5"),
        (0.9999, "1.00"),
        (99.99, "100"),
        (float("nan"), "not a number"),
    ],
)
def test_numbers_are_written_as_in_the_view(value, text):
    assert number(value) == text


# -- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_drawn_as_they_are(name):
    figure = explanation(name, name).figure(grey(), model=name, width=20)
    assert any(name in text for text in texts_of(figure))
    svg = figures.encode_figure(figure, "svg").decode()
    root = ElementTree.fromstring(svg)
    words = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert any(name in text for text in words)
    assert [element.tag for element in root.iter() if element.tag.endswith("script")] == []
    assert not any(key.lower().startswith("on") for element in root.iter() for key in element.attrib)
    for kind in ("png", "pdf"):
        assert figures.encode_figure(figure, kind)


def test_letters_that_no_font_has_and_control_characters_neither_warn_nor_fail():
    # Warnings are errors here.
    name = "猫 🐈 \x00\x0b\n\ud800\u202e ok\ue000"
    figure = explanation(name).figure(grey())
    for kind in figures.FORMATS:
        assert figures.encode_figure(figure, kind)
    ElementTree.fromstring(figures.encode_figure(figure, "svg"))
    (title,) = [text for text in texts_of(figure) if text.startswith("Grad-CAM for ")]
    assert title.endswith(" ok□")
    assert title.isprintable()


def test_the_users_own_settings_of_matplotlib_do_not_reach_the_names():
    with matplotlib.rc_context({"text.usetex": True, "font.family": "no such font", "text.color": "white"}):
        figure = explanation("$a$").figure(grey())
        assert figures.encode_figure(figure, "png")
        assert figures.encode_figure(figure, "svg")
    assert matplotlib.rcParams["svg.fonttype"] == "path"  # matplotlib's own, as it was


def test_the_users_own_settings_of_matplotlib_change_nothing_and_stay():
    expected = {kind: figures.encode_figure(explanation().figure(grey()), kind) for kind in figures.FORMATS}
    own = {
        "image.origin": "lower",
        "figure.autolayout": True,
        "figure.facecolor": "black",
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "axes.grid": True,
        "font.size": 30,
        "svg.fonttype": "path",
    }
    with matplotlib.rc_context(own):
        for kind, data in expected.items():
            assert figures.encode_figure(explanation().figure(grey()), kind) == data, kind
        assert {name: matplotlib.rcParams[name] for name in own} == own


# -- files and errors ------------------------------------------------------------------------------------------


def test_the_same_figure_gives_the_same_bytes_and_text_stays_text():
    for kind in figures.FORMATS:
        first, again = (figures.encode_figure(explanation().figure(grey()), kind) for _ in range(2))
        assert first == again
    assert b"<text" in figures.encode_figure(explanation().figure(), "svg")


def test_wrong_arguments_are_told_in_words():
    e = explanation()
    with pytest.raises(ValueError, match="format: expected png, svg, pdf; got 'gif'"):
        figures.encode_figure(e.figure(), "gif")
    with pytest.raises(ValueError, match="dpi: expected a number from 10 to 2400; got 0"):
        figures.encode_figure(e.figure(), "png", 0)
    with pytest.raises(ValueError, match="sort: expected one of"):
        e.figure(sort="size")
    with pytest.raises(ValueError, match=r"picture: expected what the model saw, uint8 \(8, 8, 3\)"):
        e.figure(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="colormap: expected one of"):
        e.figure(colormap="jet")
    with pytest.raises(ValueError, match="evidence: expected 'positive' or 'signed'"):
        e.figure(evidence="counterfactual")
    with pytest.raises(ValueError, match="width: expected 3 to 60 inches"):
        e.figure(width=1)
    with pytest.raises(ValueError, match="limit: expected a positive number"):
        e.figure(limit=0)
    with pytest.raises(ValueError, match="channels: expected a positive int"):
        e.figure(channels=0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        explanation(signed_cam=torch.full((2, 2), torch.nan)).figure()


# -- the quick picture -----------------------------------------------------------------------------------------


def test_the_snapshot_is_the_same_figure_without_matplotlibs_figures_and_fonts(monkeypatch):
    plate = replace(figures.plate_of(explanation(), grey(), box=(2, 2, 6, 6)), off=frozenset({0}), kept=2)
    expected = pixels(figures.draw(plate), 90)
    lettering._letters.cache_clear()
    for name in ("matplotlib.figure", "matplotlib.font_manager", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    with Image.open(io.BytesIO(figures.encode_snapshot(plate, 90))) as image:
        found = np.asarray(image.convert("RGB")).astype(int)
    assert abs(found.shape[0] - expected.shape[0]) <= 15  # words may be wrapped once more
    assert found.shape[1] == expected.shape[1] == 630
    picture = slice(60, 250)
    # letters and edges lie otherwise by a pixel; surfaces are the same
    assert (np.abs(found[picture] - expected[picture]).max(2) > 30).mean() < 0.06


@pytest.mark.parametrize("name", [*HOSTILE, "猫 🐈 \x00\x0b\n\ud800\u202e ok\ue000"])
def test_a_snapshot_can_be_made_of_any_name(name):
    panes = figures.plate_of(explanation(name, name), grey(), model=name)
    several = replace(panes, panes=panes.panes * 3, caption=name * 30)
    for plate in (panes, several):
        with Image.open(io.BytesIO(figures.encode_snapshot(plate))) as image:
            assert image.width == 630
            margin = np.asarray(image.convert("L"))[:, -3:]
        assert margin.min() > 200, "nothing is cut off"
