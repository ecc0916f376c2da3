"""Painting: which pixels a stroke covers and what it puts there, by hand; undo, reset and painting again."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_widget.painting import FILLS, TOOLS, Painting, Stroke, as_picture, fill_colours

RED = (255, 0, 0)


def black(height=5, width=5):
    return np.zeros((height, width, 3), np.uint8)


def covered(painting):
    """Where the red channel is full, as rows of text."""
    return ["".join("#" if pixel == 255 else "." for pixel in row) for row in painting.picture[..., 0]]


def noise(height=20, width=30):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def random_strokes(count, seed=5):
    """Strokes of all tools and fills, some of them partly or wholly outside a picture of 30 x 20."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        tool = TOOLS[number % 2]
        points = rng.uniform(-8, 36, (2 if tool == "rectangle" else int(rng.integers(1, 6)), 2))
        yield Stroke(
            points=points.tolist(),
            tool=tool,
            fill=FILLS[number % len(FILLS)],
            colour=tuple(rng.integers(0, 256, 3).tolist()),
            size=float(rng.uniform(1, 9)),
            soft=bool(number % 3),
        )


# -- what a stroke covers --------------------------------------------------------------------------------------


def test_the_smallest_brush_is_one_pixel():
    # Centre of pixel (2, 1), that is column 2, row 1; the next centres are a whole pixel away, and the radius,
    # 0.5, is raised to sqrt(0.5), 0.71.
    painting = Painting(black())
    painting.add(Stroke([(2.5, 1.5)], fill="colour", colour=RED, size=1))
    assert covered(painting) == [".....", "..#..", ".....", ".....", "....."]


@pytest.mark.parametrize("point", [(2.01, 1.02), (2.99, 1.98), (2.0, 1.0)])
def test_the_pixel_that_holds_a_point_is_painted_wherever_in_it_the_point_lies(point):
    painting = Painting(black())
    painting.add(Stroke([point], fill="colour", colour=RED, size=1))
    assert painting.picture[1, 2, 0] == 255


def test_a_brush_of_three_pixels_is_a_block_of_nine():
    # Radius 1.5: the centres at distance 1 and sqrt(2) = 1.41 are inside, those at 2 are not.
    painting = Painting(black())
    painting.add(Stroke([(2.5, 2.5)], fill="colour", colour=RED, size=3))
    assert covered(painting) == [".....", ".###.", ".###.", ".###.", "....."]


def test_a_brush_of_five_pixels_has_no_corners():
    # Radius 2.5: (2, 1) is sqrt(5) = 2.24 away and inside, (2, 2) is 2.83 away and outside.
    painting = Painting(black())
    painting.add(Stroke([(2.5, 2.5)], fill="colour", colour=RED, size=5))
    assert covered(painting) == [".###.", "#####", "#####", "#####", ".###."]


def test_a_line_has_no_gaps():
    painting = Painting(black())
    painting.add(Stroke([(0.5, 1.5), (3.5, 1.5), (3.5, 4.5)], fill="colour", colour=RED, size=1))
    assert covered(painting) == [".....", "####.", "...#.", "...#.", "...#."]


def test_a_soft_brush_covers_its_edge_in_part():
    # Radius 1: cover = 1 + 0.5 - distance, at most 1: 1 at the centre, 0.5 beside it, 1.5 - sqrt(2) = 0.0858 at
    # the corners (of 255: 128 by rounding half to even, and 22), 0 at distance 2.
    painting = Painting(black())
    painting.add(Stroke([(2.5, 2.5)], fill="colour", colour=RED, size=2, soft=True))
    assert painting.picture[1:4, 1:4, 0].tolist() == [[22, 128, 22], [128, 255, 128], [22, 128, 22]]
    assert painting.picture[2, :, 0].tolist() == [0, 128, 255, 128, 0]


def test_a_soft_stroke_over_itself_is_one_stroke():
    once, twice = Painting(black()), Painting(black())
    once.add(Stroke([(1.5, 2.5), (3.5, 2.5)], fill="colour", colour=RED, size=2, soft=True))
    twice.add(Stroke([(1.5, 2.5), (3.5, 2.5), (1.5, 2.5)], fill="colour", colour=RED, size=2, soft=True))
    assert (once.picture == twice.picture).all()


def test_a_rectangle_in_numbers():
    # From column 1 and row 1, three wide and two high: columns 1 to 3, rows 1 and 2.
    painting = Painting(black())
    assert painting.add(Stroke.rectangle(1, 1, 3, 2, fill="colour", colour=RED)) == (1, 1, 4, 3)
    assert covered(painting) == [".....", ".###.", ".###.", ".....", "....."]


def test_a_dragged_rectangle_covers_every_pixel_that_it_touches_whichever_way_it_is_dragged():
    for corners in ([(1.2, 1.7), (2.1, 3.9)], [(2.1, 3.9), (1.2, 1.7)], [(2.1, 1.7), (1.2, 3.9)]):
        painting = Painting(black())
        painting.add(Stroke(corners, tool="rectangle", fill="colour", colour=RED))
        assert covered(painting) == [".....", ".##..", ".##..", ".##..", "....."]


def test_a_press_with_the_rectangle_is_one_pixel():
    painting = Painting(black())
    painting.add(Stroke([(2.0, 3.0)], tool="rectangle", fill="colour", colour=RED))
    assert covered(painting) == [".....", ".....", ".....", "..#..", "....."]


def test_a_rectangle_that_is_dragged_smaller_gives_back_what_it_covered():
    painting = Painting(noise())
    painting.begin(Stroke([(2, 2)], tool="rectangle"))
    painting.extend(20, 15)
    assert painting.extend(4, 3) == (2, 2, 20, 15)
    painting.end()
    changed = (painting.picture != painting.original).any(-1)
    assert changed[2:3, 2:4].all()
    changed[2:3, 2:4] = False
    assert not changed.any()
    assert painting.strokes == (Stroke([(2, 2), (4, 3)], tool="rectangle"),)


def test_what_lies_outside_the_picture_is_not_painted_and_breaks_nothing():
    painting = Painting(noise())
    box = painting.add(Stroke([(-50, -50), (-40, 500)], size=8))
    assert box == (0, 0, 0, 0)
    assert painting.add(Stroke.rectangle(100, 3, 5, 5)) == (0, 0, 0, 0)
    assert (painting.picture == painting.original).all()


# -- what it puts there ----------------------------------------------------------------------------------------


def test_the_fills_by_hand():
    original = black(1, 4)
    original[0, 0], original[0, 1] = (10, 20, 30), (1, 2, 4)
    # Means over four pixels: (11, 22, 34) / 4 = (2.75, 5.5, 8.5), rounded half to even: (3, 6, 8).
    assert fill_colours(original, "mean")[0].tolist() == [[3, 6, 8]] * 4
    assert fill_colours(original, "grey")[0].tolist() == [[128, 128, 128]] * 4
    assert fill_colours(original, "colour", (7, 8, 9))[0].tolist() == [[7, 8, 9]] * 4
    assert (fill_colours(original, "original") == original).all()


def test_blur_keeps_a_flat_picture_and_spreads_a_point():
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert (fill_colours(flat, "blur") == 90).all()
    point = black(41, 41)
    point[20, 20] = 255
    # A standard deviation of 41 / 16 = 2.56: the middle has about 255 / (2 pi 2.56^2) = 6.2 of 255 left.
    blurred = fill_colours(point, "blur")[..., 0].astype(int)
    assert 4 <= blurred[20, 20] <= 8
    assert blurred[20, 20] >= blurred[20, 23] > blurred[20, 30] == 0


def test_blur_and_mean_are_those_of_the_original_however_much_is_painted():
    painting = Painting(noise())
    painting.add(Stroke.rectangle(0, 0, 30, 20, fill="colour", colour=RED))
    painting.add(Stroke.rectangle(0, 0, 30, 20, fill="blur"))
    assert (painting.picture == fill_colours(painting.original, "blur")).all()


def test_the_fill_original_takes_paint_away():
    painting = Painting(noise())
    painting.add(Stroke.rectangle(0, 0, 30, 20))
    painting.add(Stroke.rectangle(3, 4, 2, 2, fill="original"))
    assert (painting.part((3, 4, 5, 6)) == painting.original[4:6, 3:5]).all()
    assert (painting.part((5, 4, 6, 5)) == 128).all()


# -- undo, reset, painting again -------------------------------------------------------------------------------


def test_only_the_box_that_is_told_has_changed():
    painting = Painting(noise())
    for stroke in random_strokes(40):
        before = painting.picture
        x0, y0, x1, y1 = painting.begin(replace_points(stroke, stroke.points[:1]))
        boxes = [(x0, y0, x1, y1)] + [painting.extend(*point) for point in stroke.points[1:]]
        after = painting.picture
        painting.end()
        for left, top, right, bottom in boxes:
            after[top:bottom, left:right] = before[top:bottom, left:right]
        assert (after == before).all()


def replace_points(stroke, points):
    return Stroke(points, stroke.tool, stroke.fill, stroke.colour, stroke.size, stroke.soft)


def test_strokes_are_all_there_is_to_a_painting():
    live, again = Painting(noise()), Painting(noise())
    for stroke in random_strokes(30):
        live.begin(replace_points(stroke, stroke.points[:1]))
        for point in stroke.points[1:]:
            live.extend(*point)
        live.end()
    assert live.strokes == tuple(random_strokes(30))
    again.repaint(live.strokes)
    assert (again.picture == live.picture).all()
    assert (live.picture != live.original).any()


def test_undo_goes_back_stroke_by_stroke_to_the_original():
    painting, pictures = Painting(noise()), []
    for stroke in random_strokes(12):
        pictures.append(painting.picture)
        painting.add(stroke)
    while painting.can_undo:
        assert painting.undo()
        assert (painting.picture == pictures.pop()).all()
    assert pictures == []
    assert (painting.picture == painting.original).all()
    assert not painting.undo()


def test_reset_takes_all_away_and_can_be_undone():
    painting = Painting(noise())
    assert not painting.reset()
    first, second = list(random_strokes(2))
    painting.add(first)
    painting.add(second)
    painted = painting.picture
    assert painting.reset()
    assert painting.strokes == ()
    assert (painting.picture == painting.original).all()
    assert painting.undo()
    assert painting.strokes == (first, second)
    assert (painting.picture == painted).all()


def test_undo_in_the_middle_of_a_stroke_takes_that_stroke_back():
    painting = Painting(noise())
    painting.begin(Stroke([(3, 3)]))
    painting.extend(9, 9)
    assert painting.undo()
    assert painting.strokes == ()
    assert painting.extend(12, 12) == (0, 0, 0, 0)
    assert (painting.picture == painting.original).all()


def test_the_same_strokes_again_are_no_change():
    painting = Painting(noise())
    painting.add(Stroke([(3, 3)]))
    assert not painting.repaint(painting.strokes)
    assert painting.undo()
    assert not painting.can_undo


def test_the_original_and_the_picture_cannot_be_written_through():
    source = noise()
    painting = Painting(source)
    source[:] = 0
    painting.picture[:] = 0
    assert (painting.picture == noise()).all()
    with pytest.raises(ValueError, match="read-only"):
        painting.original[0] = 0


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": []}, r"points: expected one pair"),
        ({"points": [(1, float("nan"))]}, r"points: expected one pair of finite numbers"),
        ({"points": [(1, 2, 3)]}, r"points: expected one pair"),
        ({"points": 3}, r"points: expected one pair"),
        ({"points": [(0, 0), (1, 1), (2, 2)], "tool": "rectangle"}, r"a rectangle has two"),
        ({"tool": "pencil"}, r"tool: expected one of brush, rectangle; got 'pencil'"),
        ({"fill": "black"}, r"fill: expected one of grey, mean, blur, colour, original; got 'black'"),
        ({"size": 0}, r"size: expected the diameter of the brush, 1 pixel or more; got 0"),
        ({"size": True}, r"size: expected"),
        ({"colour": (0, 0, 256)}, r"colour: expected \(red, green, blue\)"),
        ({"colour": "red"}, r"colour: expected \(red, green, blue\)"),
    ],
)
def test_a_wrong_stroke_says_what_it_should_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Stroke(**({"points": [(1, 1)]} | arguments))


def test_a_rectangle_without_an_area_is_refused():
    with pytest.raises(ValueError, match="a width and a height of more than 0 pixels; got 0 × 3"):
        Stroke.rectangle(1, 1, 0, 3)


def test_strokes_are_equal_by_value():
    assert Stroke([(1, 2)], colour=[1, 2, 3]) == Stroke(((1.0, 2.0),), colour=(1, 2, 3))
    assert hash(Stroke([(1, 2)])) == hash(Stroke([(1, 2)]))


def test_other_things_than_strokes_are_refused_and_change_nothing():
    painting = Painting(noise())
    painting.add(Stroke([(3, 3)]))
    with pytest.raises(TypeError, match="strokes: expected Stroke objects; got str among them"):
        painting.repaint(["brush"])
    assert len(painting.strokes) == 1


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2), np.uint8)]
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match=r"picture: expected a uint8 array \(H, W, 3\)"):
        as_picture(pixels)
    with pytest.raises(TypeError, match=r"picture: expected a uint8 array .* got list"):
        as_picture([[0]])


def test_a_grey_picture_becomes_three_equal_channels():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = as_picture(grey)
    assert picture.shape == (2, 3, 3)
    assert all((picture[..., channel] == grey).all() for channel in range(3))
