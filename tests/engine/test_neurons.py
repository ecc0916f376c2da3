"""Channels with names: places, patches and Network Dissection's IoU by hand, and against slow float64 loops."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import ChannelNames, GradCAM, explain_in_words, name_channels
from gradcam_widget.channel_names import Channel, Concept
from gradcam_widget.perturbation import Cancelled

from .nets import PLAIN


class Net(nn.Module):
    """One convolution, whose output a ReLU writes over, and a head."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(conv.out_channels, 2)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def red() -> Net:
    """One channel: the red of each pixel."""
    conv = nn.Conv2d(3, 1, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
    return Net(conv)


def picture(rows: list[list[float]]) -> Tensor:
    image = torch.zeros(3, len(rows), len(rows[0]))
    image[0] = torch.tensor(rows)
    return image


A = picture([[0.8, 0.7, 0.6, 0.5], [0] * 4, [0] * 4, [0] * 4])
B = picture([[0.4, 0.3, 0.2, 0.1], [0] * 4, [0] * 4, [0] * 4])


def mask(where: tuple[slice, slice], size: tuple[int, int] = (4, 4)) -> np.ndarray:
    found = np.zeros(size, bool)
    found[where] = True
    return found


ALL = slice(None)
MASKS = [{"top": mask((slice(0, 2), ALL)), "left": mask((ALL, slice(0, 1)))}, {"left": mask((ALL, slice(0, 1)))}]


def cam(model: nn.Module | None = None) -> GradCAM:
    return GradCAM(model or red(), transform=PLAIN)


# -- by hand ---------------------------------------------------------------------------------------------------


def test_the_iou_by_hand():
    # 32 cells, of which a share of 0.125, four, may exceed T: 0.8, 0.7, 0.6, 0.5. So T is the fifth, 0.4, and the
    # region is these five pixels. "top" has 8 pixels, all in A, and shares 4: 4 / (8 + 5 - 4). "left" has 4 + 4
    # and shares one with either picture: 2 / (8 + 5 - 2).
    names = name_channels(cam(), {"a": A, "b": B}, "conv", masks=MASKS, quantile=0.125)
    (channel,) = names.channels
    assert channel.threshold == pytest.approx(0.4)
    assert channel.concept == Concept("top", pytest.approx(4 / 9), "IoU", 1)
    assert (channel.name, channel.named, str(channel.concept)) == ("top", True, "top (IoU 0.44)")
    assert names.named == {"top": (0,)}
    assert (names.pictures, names.read_for_threshold, names.layer, names.shape) == (
        ("a", "b"),
        2,
        "conv",
        (1, 4, 4),
    )
    left = [{"left": masks["left"]} for masks in MASKS]
    assert name_channels(cam(), [A, B], "conv", masks=left, quantile=0.125)[0].score == pytest.approx(2 / 11)


def test_a_picture_without_masks_is_left_out_and_one_with_none_of_them_is_not():
    # Without B the region is the four pixels of A: "left" has 4, shares one. With an empty dict for B its one
    # pixel of the region counts, too.
    left = {"left": MASKS[0]["left"]}
    for second, expected in ((None, 1 / 7), ({}, 1 / 8)):
        found = name_channels(cam(), [A, B], "conv", masks=[left, second], quantile=0.125)
        assert found[0].score == pytest.approx(expected), second


def test_a_channel_that_is_zero_nearly_everywhere_marks_only_where_it_is_not():
    # 8 of 32 values are above zero; T for a half of the cells is 0, the smallest value there is.
    everything = [{"all": np.ones((4, 4), bool)}] * 2
    found = name_channels(cam(), [A, B], "relu", masks=everything, quantile=0.5)
    assert (found[0].threshold, found[0].score) == (0, pytest.approx(8 / 32))


def test_no_name_without_an_iou_above_the_threshold():
    found = name_channels(cam(), [A, B], "conv", masks=MASKS, quantile=0.125, threshold=4 / 9)[0]
    assert (found.name, found.named, found.concept.name) == (None, False, "top")
    assert found.score == pytest.approx(4 / 9)
    assert name_channels(cam(), [A, B], "conv")[0].concept is None


def test_the_patch_by_hand():
    # A window of 3 in steps of 2 with padding 1: the cell (0, 1) sees rows -1 to 1 and columns 1 to 3.
    conv = nn.Conv2d(3, 1, 3, stride=2, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1] = 1
    rows = [[10 * r + c for c in range(6)] for r in range(6)]
    rows[0][2] = 200  # the centre of that cell
    image = picture(rows) / 255
    names = name_channels(cam(Net(conv)), [image], "conv", top=2, per_picture=2)
    first, second = names[0].places
    assert (first.picture, first.cell, first.box) == (0, (0, 1), (1, -1, 4, 2))
    assert first.value == pytest.approx(200 / 255)
    assert (second.cell, second.box) == ((2, 2), (3, 3, 6, 6))
    assert not names.approximate
    red_of = names.patch(0)[..., 0]
    assert red_of.tolist() == [[128] * 3, [1, 200, 3], [11, 12, 13]]  # grey outside of the picture
    assert names.patch(0, 1)[..., 0].tolist() == [[33, 34, 35], [43, 44, 45], [53, 54, 55]]


def test_where_a_cell_sees_more_than_the_picture_the_patch_is_its_region():
    # Eight pixels by two cells: that of cell (0, 1) with one cell around it is rows -4 to 8, columns 0 to 12.
    model = Net(nn.Conv2d(3, 1, 15, stride=4, padding=7, bias=False))
    with torch.no_grad():
        model.conv.weight.zero_()
        model.conv.weight[0, 0, 7, 7] = 1
    image = torch.zeros(3, 8, 8)
    image[0, 0, 4] = 1
    names = name_channels(cam(model), [image], "conv")
    assert names.approximate
    assert names[0].places[0].box == (0, -4, 12, 8)
    assert name_channels(cam(model), [image], "conv", around=0)[0].places[0].box == (4, 0, 8, 4)


def test_one_place_per_picture_the_strongest_first_and_none_where_the_channel_is_flat():
    names = name_channels(cam(), [B, A], "conv", top=5)
    assert [(place.picture, place.cell) for place in names[0].places] == [(1, (0, 0)), (0, (0, 0))]
    names = name_channels(cam(), [B, A], "conv", top=5, per_picture=3)
    found = [(place.picture, place.cell[1], place.value) for place in names[0].places]
    assert found == [(1, c, pytest.approx(v)) for c, v in ((0, 0.8), (1, 0.7), (2, 0.6))] + [
        (0, 0, pytest.approx(0.4)),
        (0, 1, pytest.approx(0.3)),
    ]
    assert name_channels(cam(), [torch.zeros(3, 4, 4)] * 2, "conv")[0].places == ()


def test_labels_by_their_average_precision():
    # The largest red of the pictures: 0.8, 0.6, 0.4, 0.2, labels warm, cold, warm, cold. Warm: precision 1 at the
    # first, 2/3 at the third, each half of the recall: 5/6. Cold: (1/2 + 2/4) / 2 = 1/2.
    pictures = [torch.full((3, 4, 4), value) for value in (0.8, 0.6, 0.4, 0.2)]
    labels = ["warm", "cold", "warm", "cold"]
    found = name_channels(cam(), pictures, "conv", labels=labels)[0]
    assert found.concept == Concept("warm", pytest.approx(5 / 6), "average precision", 2)
    assert (found.name, found.threshold) == ("warm", None)
    assert name_channels(cam(), pictures, "conv", labels=labels, label_threshold=5 / 6)[0].name is None
    # Equal pictures have no order: the precision of all of them is the share of the label.
    flat = name_channels(cam(), pictures[:1] * 4, "conv", labels=labels)[0]
    assert flat.score == pytest.approx(1 / 2)
    # A label of one picture says nothing, and a picture without one does not count.
    assert name_channels(cam(), pictures, "conv", labels=["x", None, None, "y"])[0].concept is None


def test_what_is_known_of_pictures_may_be_given_by_their_names():
    pictures = {"a": A, "b": B}
    by_order = name_channels(cam(), pictures, "conv", masks=MASKS, labels=["x", None], quantile=0.125)
    by_name = name_channels(
        cam(), pictures, "conv", masks={"b": MASKS[1], "a": MASKS[0]}, labels={"a": "x"}, quantile=0.125
    )
    assert by_name[0].concept == by_order[0].concept is not None
    with pytest.raises(TypeError, match="there is no picture named 'c'"):
        name_channels(cam(), pictures, "conv", labels={"c": "x"})


def test_masks_go_before_labels_where_they_name():
    labels = ["warm", "warm", "cold", "cold"]
    pictures, masks = [A, A, B, B], [MASKS[0], MASKS[0], MASKS[1], MASKS[1]]
    assert name_channels(cam(), pictures, "conv", masks=masks, labels=labels, quantile=0.125)[0].name == "top"
    poor = name_channels(cam(), pictures, "conv", masks=masks, labels=labels, quantile=0.125, threshold=0.9)[0]
    assert (poor.name, poor.concept.measure) == ("warm", "average precision")


# -- against slow loops in float64 -----------------------------------------------------------------------------


def enlarged(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, align_corners=False, pixel by pixel."""
    out = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            at = []
            for p, n, m in ((y, size[0], cells.shape[0]), (x, size[1], cells.shape[1])):
                c = min(max((p + 0.5) * m / n - 0.5, 0), m - 1)
                at.append((math.floor(c), min(math.floor(c) + 1, m - 1), c - math.floor(c)))
            (r0, r1, fr), (c0, c1, fc) = at
            upper = cells[r0, c0] * (1 - fc) + cells[r0, c1] * fc
            lower = cells[r1, c0] * (1 - fc) + cells[r1, c1] * fc
            out[y, x] = upper * (1 - fr) + lower * fr
    return out


def reference(maps: list[np.ndarray], masks: list[dict], quantile: float) -> tuple[list[float], list[dict]]:
    """(T, {concept: IoU}) for each channel."""
    thresholds, ious = [], []
    for k in range(len(maps[0])):
        values = sorted((float(v) for one in maps for v in one[k].ravel()), reverse=True)
        t = next(v for v in sorted(set(values)) if sum(w > v for w in values) <= quantile * len(values) + 1e-9)
        counts: dict[str, list[int]] = {}
        concepts = sorted({concept for one in masks for concept in one})
        for one, there in zip(maps, masks, strict=True):
            size = next(iter(there.values())).shape
            region = enlarged(one[k].astype(np.float64), size) >= t
            for concept in concepts:
                is_there = there.get(concept, np.zeros(size, bool))
                both, either = counts.setdefault(concept, [0, 0])
                counts[concept] = [both + int((region & is_there).sum()), either + int((region | is_there).sum())]
        thresholds.append(t)
        ious.append({concept: both / either for concept, (both, either) in counts.items()})
    return thresholds, ious


@pytest.mark.parametrize("budget", ["1GB", "24kB"])
def test_against_slow_loops(budget):
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    model = Net(nn.Conv2d(3, 5, 3, stride=2)).double()
    sizes = [(20, 24)] * 5 + [(16, 16)] * 2 + [(20, 24)] * 4
    images = [torch.rand(3, *size).double() for size in sizes]
    masks = []
    for number in range(len(images)):
        size = (13, 16) if sizes[number] == (20, 24) else (15, 15)
        concepts = {name: rng.random(size) < share for name, share in (("a", 0.3), ("b", 0.6), ("c", 0.1))}
        masks.append({name: where for name, where in concepts.items() if number % 3 or name != "a"})
    with torch.no_grad():
        maps = [model.conv(image[None])[0].numpy() for image in images]
    thresholds, ious = reference(maps, masks, 0.1)
    engine = cam(model)
    names = name_channels(
        engine, images, "conv", masks=masks, quantile=0.1, threshold=0, top=4, memory_budget=budget
    )
    assert names.read_for_threshold == len(images)
    runs = 2 if budget == "24kB" else 1  # the model's, for each picture
    assert engine.passes.forward >= runs * len(images)
    assert (engine.passes.forward < 2 * len(images)) == (runs == 1)
    for k, channel in enumerate(names.channels):
        best = max(ious[k], key=lambda name: ious[k][name])
        assert channel.threshold == pytest.approx(thresholds[k], rel=1e-6)
        assert (channel.concept.name, channel.score) == (best, pytest.approx(ious[k][best], rel=1e-9))
        strongest = sorted(range(len(maps)), key=lambda number: -maps[number][k].max())[:4]
        assert [place.picture for place in channel.places] == strongest
        for place in channel.places:
            assert place.value == pytest.approx(maps[place.picture][k].max(), rel=1e-6)
            assert maps[place.picture][k][place.cell] == maps[place.picture][k].max()
            row, column = place.cell
            assert place.box == (2 * column, 2 * row, 2 * column + 3, 2 * row + 3)


def test_thresholds_are_found_on_fewer_pictures_where_the_budget_is_small():
    torch.manual_seed(0)
    model, images = Net(nn.Conv2d(3, 4, 1)), [torch.rand(3, 32, 32) for _ in range(6)]
    masks = [{"all": np.ones((8, 8), bool)}] * 6
    # A tenth of 6 x 1024 cells of 4 channels at 4 bytes is 9.8 kB: three times what half of 6.5 kB has room for.
    names = name_channels(cam(model), images, "conv", masks=masks, quantile=0.1, memory_budget="6.6kB")
    assert names.read_for_threshold == 2
    with torch.no_grad():
        seen = torch.cat([model.conv(images[number][None])[0].flatten(1) for number in (0, 3)], 1)
    for channel, values in zip(names.channels, seen, strict=True):
        assert channel.threshold == pytest.approx(float(values.sort(descending=True).values[204]))


# -- what it leaves, takes and refuses -------------------------------------------------------------------------


def test_the_model_is_left_as_it_was_also_when_cancelled():
    model = red().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told = []
    name_channels(
        GradCAM(model, transform=PLAIN), [A, B], "conv", masks=MASKS, quantile=0.125, progress=told_to(told)
    )
    assert told == [(2, 4), (4, 4)]
    with pytest.raises(Cancelled, match="2 of 4"):
        name_channels(model, [A, B], "conv", masks=MASKS, quantile=0.125, progress=lambda done, total: False)
    with pytest.raises(Cancelled, match="1 of 2"):
        name_channels(model, [A, picture([[0.1] * 5] * 5)], "conv", progress=lambda done, total: done > 1)
    assert model.training
    assert model.relu.training
    assert not model.conv._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def told_to(told: list):
    return lambda done, total: told.append((done, total))


class OneByOne(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(1, 3, 4, 4))


def test_a_model_that_takes_one_picture_at_a_time():
    found = name_channels(cam(OneByOne(red().conv)), [A, B, A], "conv", masks=[*MASKS, None], quantile=0.125)
    assert found[0].places == name_channels(cam(), [A, B, A], "conv")[0].places


def test_pictures_are_read_when_they_are_wanted():
    class Folder:
        reads = 0

        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> Tensor:
            if number not in (0, 1):
                raise IndexError(number)
            self.reads += 1
            return (A, B)[number]

    folder = Folder()
    names = name_channels(cam(), folder, "conv")
    assert folder.reads > 0
    assert names.pictures == ("picture 0", "picture 1")
    assert len(name_channels(cam(), iter([A, B]), None)) == 1


def test_masks_may_be_made_of_what_the_model_saw():
    seen = []

    def halves(pixels):
        seen.append(pixels.shape)
        return {"red": pixels[..., 0] > 90}

    # 0.8 to 0.4 are above 90 / 255: exactly the region.
    names = name_channels(cam(), [A, B], "conv", masks=halves, quantile=0.125)
    assert seen == [(4, 4, 3)] * 2
    assert (names[0].name, names[0].score) == ("red", 1.0)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"images": []}, ValueError, "at least one picture"),
        ({"images": torch.zeros(2, 3, 4, 4)}, TypeError, "list\\(images\\)"),
        ({"images": 3}, TypeError, "images: expected a list"),
        ({"images": np.int64(3)}, TypeError, "images: expected a list"),
        ({"images": b"abc"}, TypeError, "images: expected a list of pictures, or a dict .*; got bytes"),
        ({"masks": np.array(1.0)}, TypeError, "masks: expected a list .*; got ndarray"),
        ({"labels": torch.tensor(1)}, TypeError, "labels: expected a list .*; got Tensor"),
        ({"images": {1: A}}, TypeError, "names as strings"),
        ({"layer": "cnov"}, ValueError, "did you mean 'conv'"),
        ({"masks": MASKS[:1]}, ValueError, "each of the 2 pictures; got 1"),
        ({"masks": {"top": 1}}, TypeError, "masks: expected a list"),
        ({"masks": [{"top": np.ones((4, 4))}, None]}, ValueError, "mask > 0"),
        ({"masks": [{"top": np.ones(4, bool)}, None]}, ValueError, "expected bool"),
        ({"masks": [{1: np.ones((4, 4), bool)}, None]}, TypeError, "names of concepts"),
        ({"masks": [[], None]}, TypeError, "dict concept"),
        ({"masks": [{"a": mask((ALL, ALL)), "b": mask((ALL, ALL), (5, 5))}, None]}, ValueError, "one size"),
        ({"masks": [{"a": np.ones((8, 16), bool)}, None]}, ValueError, "4 x 4, .* of 'picture 0'; got 8 x 16"),
        (
            {"masks": lambda _: {"a": np.ones((8, 16), bool)}, "quantile": 0.125},
            ValueError,
            "4 x 4, .*; got 8 x 16",
        ),
        ({"masks": MASKS}, ValueError, "larger quantile than 0.031"),
        ({"labels": ["a"]}, ValueError, "each of the 2 pictures"),
        ({"labels": ["a", 3]}, TypeError, "names or None"),
        ({"threshold": 1}, ValueError, "threshold: "),
        ({"label_threshold": "x"}, ValueError, "label_threshold: "),
        ({"top": 0}, ValueError, "top: expected an int, 1 or more"),
        ({"around": -1}, ValueError, "around: "),
        ({"quantile": 1}, ValueError, "quantile: "),
        ({"memory_budget": "much"}, ValueError, "memory_budget"),
        ({"progress": 3}, TypeError, "progress: "),
        ({"images": [A, A * math.nan]}, ValueError, "NaN or infinite"),
    ],
)
def test_what_cannot_be_used_is_said(changes, error, words):
    arguments = {"images": [A, B], "layer": "conv", **changes}
    with pytest.raises(error, match=words):
        name_channels(cam(), arguments.pop("images"), arguments.pop("layer"), **arguments)


def test_masks_of_another_aspect_are_told_before_the_model_runs_and_those_of_rounded_sizes_are_taken():
    engine = cam()
    for wrong in ([{"a": np.ones((3, 4), bool)}, None], [None, {"a": np.ones((4, 2), bool)}]):
        with pytest.raises(ValueError, match="masks: expected the aspect of 4 x 4"):
            name_channels(engine, [A, B], "conv", masks=wrong, quantile=0.125)
    assert engine.passes.forward == 0
    wide = torch.rand(3, 5, 7)
    for rows, columns in ((1, 1), (2, 3), (3, 4), (10, 14), (11, 15)):  # 5 / 7 of a column, rounded
        taken = [{"a": np.ones((rows, columns), bool)}] * 2
        assert name_channels(engine, [wide, wide], "conv", masks=taken, quantile=0.125)


# -- the file --------------------------------------------------------------------------------------------------


@pytest.fixture
def names() -> ChannelNames:
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    images = [torch.rand(3, 16, 16) for _ in range(6)]
    masks = [{"a": rng.random((8, 8)) < 0.5, "ü": rng.random((8, 8)) < 0.2} for _ in images]
    model = Net(nn.Conv2d(3, 4, 3))
    return name_channels(model, images, "conv", masks=masks, labels=["x", "y"] * 3, quantile=0.05)


def test_what_is_saved_is_what_is_loaded(names, tmp_path):
    names.save(tmp_path / "names.npz", quality=None)
    again = ChannelNames.load(tmp_path / "names.npz")
    plain = ("layer", "shape", "channels", "pictures", "approximate", "quantile", "threshold", "label_threshold")
    for name in (*plain, "read_for_threshold", "model"):
        assert getattr(again, name) == getattr(names, name), name
    for k in range(len(names)):
        for one, other in zip(names.patches(k), again.patches(k), strict=True):
            assert np.array_equal(one, other)
    names.save(tmp_path / "small.npz")
    near = ChannelNames.load(tmp_path / "small.npz").patch(0).astype(int) - names.patch(0)
    assert np.abs(near).mean() < 40  # noise is the worst there is for a JPEG


def test_a_file_of_something_else_is_refused_and_nothing_in_it_runs(names, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ChannelNames.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="no file of channel names") as told:
        ChannelNames.load(tmp_path / "text.npz")
    assert "allow_pickle" not in str(told.value)

    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("went off").touch, ())

    pickle.loads(pickle.dumps(Bomb()))
    assert tmp_path.joinpath("went off").exists()  # it would
    tmp_path.joinpath("went off").unlink()
    np.savez(tmp_path / "bomb.npz", about=np.array([Bomb()], object))
    with pytest.raises(
        ValueError, match=r"no file of channel names.*\(it is no npz file, or holds pickled objects\)"
    ):
        ChannelNames.load(tmp_path / "bomb.npz")
    assert not tmp_path.joinpath("went off").exists()
    names.save(tmp_path / "names.npz")
    with np.load(tmp_path / "names.npz") as held:
        parts = dict(held)
    np.savez(tmp_path / "short.npz", **{**parts, "counts": parts["counts"][:-1]})
    with pytest.raises(ValueError, match="do not belong together"):
        ChannelNames.load(tmp_path / "short.npz")


def test_a_sprite_has_the_patches_side_by_side_in_ten_kilobytes(names):
    from io import BytesIO

    from PIL import Image

    sprite = names.sprite(0, side=20, most=4)
    with Image.open(BytesIO(sprite)) as opened:
        assert opened.size == (80, 20)
    assert len(names.sprite(0)) <= 10_000
    empty = Channel(0, ())
    assert (empty.name, empty.score) == (None, 0.0)
    with pytest.raises(ValueError, match="rank: channel 0 has 6 places"):
        names.patch(0, 6)
    with pytest.raises(ValueError, match="channel: expected 0 to 3"):
        names.patch(4)
    with pytest.raises(ValueError, match="quality"):
        names.save("x.npz", quality=0)
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .npz; got 'names.txt'"):
        names.save("names.txt")


def test_wrong_numbers_and_paths_are_told(tmp_path):
    names = name_channels(cam(), [A, B], "conv")
    for wrong in ("a", None, 1.5, True, np.zeros(2)):
        with pytest.raises(TypeError, match="channel: expected 0 to 0 at 'conv'; got"):
            names.patches(wrong)
        with pytest.raises(TypeError, match="rank: expected an int; got"):
            names.patch(0, wrong)
        with pytest.raises(TypeError, match="side: expected 1 to 1024; got"):
            names.sprite(0, side=wrong)
        with pytest.raises(TypeError, match="picture: expected 0 to 1; got"):
            names.picture(wrong)
    with pytest.raises(ValueError, match="most: expected 1 or more; got -1"):
        names.sprite(0, most=-1)
    with pytest.raises(TypeError, match="quality: expected 1 to 95, or None for every pixel; got 'high', a str"):
        names.save(tmp_path / "x.npz", quality="high")
    with pytest.raises(TypeError, match="path: expected the path of a file; got int"):
        names.save(3)
    with pytest.raises(TypeError, match="path: expected the path of a file; got NoneType"):
        ChannelNames.load(None)
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder .*none.*; make it first"):
        names.save(tmp_path / "none" / "x.npz")
    names.save(tmp_path / "x.npz", quality=np.int64(50))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


# -- in words --------------------------------------------------------------------------------------------------


class Two(Net):
    """Two channels, red and green; the first class likes red and dislikes green."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 1, bias=False))
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.fc.weight.copy_(torch.tensor([[2.0, -4.0, 0.0], [0.0, 0.0, 0.0]]))
            self.fc.bias.zero_()


def test_an_explanation_in_words():
    engine = GradCAM(Two(), transform=PLAIN, class_names=["<b>espresso", "tea"])
    pictures = {"cup": A, "ro&se": B}
    masks = [{"round": mask((slice(0, 1), ALL))}] * 2
    names = name_channels(engine, pictures, "relu", masks=masks, quantile=0.125)
    explanation = engine.explain(A, "tea", "relu")
    assert str(explain_in_words(explanation, names)) == "for *tea*: no channel; against: no channel"
    explanation = engine.explain(A, "<b>espresso", "relu")
    words = explain_in_words(explanation, names)
    # The region is the five strongest of the eight pixels that are round: 5 / 8. alpha is 2 / 16 and -4 / 16;
    # green is nowhere, so that channel has no place and no name, and blue has no weight.
    assert [(word.channel.number, word.alpha) for word in words.for_it] == [(0, pytest.approx(2 / 16))]
    assert [(word.channel.number, word.alpha) for word in words.against_it] == [(1, pytest.approx(-4 / 16))]
    assert str(words) == (
        "for *<b>espresso*: 1 channel like [round] (#0 round, IoU 0.62); "
        "against: 1 channel without a name (#1, never excited)"
    )
    shown = words._repr_html_()
    assert "&lt;b&gt;espresso" in shown and "ro&amp;se" in shown and "<b>espresso" not in shown  # noqa: PT018
    assert shown.count("<img") == 1
    unnamed = name_channels(engine, pictures, "relu")
    assert "1 channel without a name (#0, most in cup, ro&se)" in str(explain_in_words(explanation, unnamed))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"count": 0}, ValueError, "count: expected an int"),
        ({"names": None}, TypeError, "names: expected those of name_channels"),
        ({"explanation": "a map"}, TypeError, "explanation: "),
        ({"layer": "relu"}, ValueError, "for 'conv' with 3 channels; the explanation is of 'relu'"),
    ],
)
def test_words_of_another_layer_are_refused(change, error, words):
    engine = GradCAM(Two(), transform=PLAIN)
    explanation = engine.explain(A, 0, change.pop("layer", "conv"))
    arguments = {"explanation": explanation, "names": name_channels(engine, [A], "conv"), **change}
    with pytest.raises(error, match=words):
        explain_in_words(arguments.pop("explanation"), arguments.pop("names"), **arguments)
