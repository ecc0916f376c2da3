"""The hand-out in a browser: from a file, with every request refused; what it shows are the engine's numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from axe import violations
from playwright.sync_api import Browser, Page, expect
from torch import Tensor, nn
from view_page import bars, next_frame, pixels

from gradcam_widget.engine import GradCAM
from gradcam_widget.localise import enlarge, find_box
from gradcam_widget.widget.explorer import GradCAMWidget

HOSTILE = "</script><img src=x onerror=alert(1)> & javascript:alert(2)"
CLASSES = ("cat", "dog", "crane", "lynx", "owl", "fox", HOSTILE)


class Net(nn.Module):
    """Three stages of convolutions on 32 x 32 pixels, with noise for weights; the last stage is rectified."""

    class_names = CLASSES

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.second = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.third = nn.Conv2d(24, 20, 3, padding=1)
        self.head = nn.Linear(20, len(CLASSES))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(torch.relu(self.third(x)).mean((2, 3)) * 12)


def pictures() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    shades = np.kron(rng.integers(0, 255, (2, 8, 8, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    return {f"one {HOSTILE}": shades[0], "two": shades[1]}


def as_tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.asarray(image)).permute(2, 0, 1) / 255 - 0.5


class Lesson:
    """A hand-out, and the engine that it came from."""

    def __init__(self, folder: Path) -> None:
        self.pictures = pictures()
        self.widget = GradCAMWidget(
            Net(), self.pictures, transform=as_tensor, labels=["owl", "dog"], layer="third"
        )
        self.engine: GradCAM = self.widget.engine
        self.path = self.widget.to_html(
            folder / "lesson.html",
            images="all",
            layers=["first", "second", "third"],
            title=f"What it sees {HOSTILE}",
            text=f"First paragraph {HOSTILE}\n\nSecond paragraph.",
            questions=["Where does it look?", f"Why? {HOSTILE}"],
        )

    def explain(self, label: str, layer: str, picture: int = 0) -> Any:
        return self.engine.explain(list(self.pictures.values())[picture], label, layer)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    made = Lesson(tmp_path_factory.mktemp("lesson"))
    yield made
    made.widget.close()


@pytest.fixture
def show(browser: Browser, lesson: Lesson) -> Iterator[Callable[..., Page]]:
    """Open the hand-out; every request but that for the file is refused, and nothing may complain."""
    contexts, complaints = [], []

    def open_page(path: Path = lesson.path, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 1000}, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()

        def heard(message: Any) -> None:
            if "willReadFrequently" not in message.text:  # the browser's advice to the test that reads the pixels
                complaints.append(f"{message.type}: {message.text}")

        def refuse(route: Any) -> None:
            if route.request.url == path.as_uri():
                route.continue_()
            else:
                complaints.append(f"asked for {route.request.url}")
                route.abort()

        page.route("**/*", refuse)
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(f"raised: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.log('policy: ' + e.violatedDirective))"
        )
        page.goto(path.as_uri())
        page.wait_for_selector(".gcw[data-revision]")
        next_frame(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def choose(page: Page, label: str, beginning: str) -> None:
    """Choose what begins so in a list, and wait until it is on show."""
    select = page.get_by_label(label, exact=True)
    words = select.locator("option").all_text_contents()
    (wanted,) = [word for word in words if word.startswith(beginning)]
    before = page.locator(".gcw").get_attribute("data-revision")
    select.select_option(label=wanted)
    if label not in ("Colour map", "Sort"):
        page.wait_for_function("before => document.querySelector('.gcw').dataset.revision !== before", arg=before)
    next_frame(page)


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace("e\u2212", "e-").replace("\u2212", "-"))


def limit(page: Page) -> float:
    """What stands at the upper end of the colour bar."""
    return number(page.locator(".gcw-where .gcw-most").first.inner_text().split("\n")[0])


def alphas(page: Page) -> dict[int, float]:
    """Every channel on show with its weight."""
    return dict(
        page.locator(".gcw-bar").evaluate_all(
            "all => all.map(b => [Number(b.dataset.channel), Number(b.dataset.alpha)])"
        )
    )


def test_it_opens_from_a_file_with_nothing_else_to_be_had(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"What it sees {HOSTILE}")
    assert page.title() == f"What it sees {HOSTILE}"
    for name in ("Picture", "Layer", "Class", "Compare with", "Evidence", "Colour map", "Opacity"):
        expect(page.get_by_label(name, exact=True)).to_be_visible()
    # It begins with what was on show.
    best = lesson.engine.predict(next(iter(lesson.pictures.values()))).argmax()
    expect(page.locator(".gcw-title")).to_have_text(f"αk for {CLASSES[best]} at third")
    assert page.locator(".gcw-bar").count() == 18
    assert page.locator(".gcw-layer").count() == 3
    expect(page.locator(".gcw-status")).to_be_hidden()
    # What needs a model is not there.
    for name in ("Copy code", "Save PNG", "Score without them", "Compute"):
        assert page.get_by_role("button", name=name).count() == 0
    assert "export" in lesson.widget.panels
    assert "Method" not in page.locator(".gradcam-controls").inner_text()


def test_every_choice_shows_the_numbers_of_the_engine(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choices = [
        ("Class", "lynx"),
        ("Layer", "second"),
        ("Picture", "two"),
        ("Evidence", "signed"),
        ("Class", "fox"),
    ]
    now = {"Class": "", "Layer": "third", "Picture": f"one {HOSTILE}", "Evidence": "positive"}
    for label, value in choices:
        choose(page, label, value)
        now[label] = value
        picture = list(lesson.pictures).index(now["Picture"])
        found = lesson.explain(now["Class"], now["Layer"], picture)
        expect(page.locator(".gcw-title")).to_have_text(f"αk for {now['Class']} at {now['Layer']}")
        expect(page.locator(".gcw-where .gcw-caption")).to_contain_text(now["Picture"])
        order = np.argsort(-np.abs(found.alpha.numpy()), kind="stable")[:18]
        assert bars(page) == order.tolist()
        np.testing.assert_allclose(list(alphas(page).values()), found.alpha.numpy()[order], rtol=1e-4)
        cam = found.signed_cam if now["Evidence"] == "signed" else found.cam
        written = page.locator(".gcw-where > .gcw-scale").get_attribute("aria-label") or ""
        most = number(written.rpartition(" ")[2])
        assert most == pytest.approx(float(cam.abs().max()), rel=6e-3)  # three digits
        scores = lesson.engine.predict(list(lesson.pictures.values())[picture]).softmax(0)
        shares = page.locator(".gcw-prediction .gcw-value").all_text_contents()
        assert [float(share) for share in shares] == pytest.approx(scores.topk(5).values.tolist(), abs=6e-4)


@pytest.mark.parametrize("evidence", ["positive", "signed"])
def test_the_picture_is_to_the_last_pixel_that_of_the_live_view(
    show: Callable[..., Page], view_open: Callable[..., Any], lesson: Lesson, evidence: str
) -> None:
    lesson.widget.set(layer="second", target="lynx", evidence=evidence, image_index=0)
    canvas = lesson.widget._canvas
    names = ["picture", "scene", "strip", "opacity", "colormap", "colormap_index", "tables", "panels"]
    try:
        live = view_open({name: getattr(canvas, name) for name in names}, width=1172)
        page = show()
        choose(page, "Class", "lynx")
        choose(page, "Layer", "second")
        if evidence == "signed":
            choose(page, "Evidence", "signed")
        box = live.locator(".gcw-picture").bounding_box() or {}
        assert (page.locator(".gcw-picture").bounding_box() or {})["width"] == box["width"] == 448
        np.testing.assert_array_equal(pixels(page), pixels(live))
        tiles = ".gcw-layer:nth-child({}) canvas"
        for number in (1, 2, 3):
            np.testing.assert_array_equal(pixels(page, tiles.format(number)), pixels(live, tiles.format(number)))
    finally:
        lesson.widget.set(layer="third", target=None, evidence="positive", image_index=0)


def test_a_bar_shows_its_channel_and_the_bars_can_be_sorted(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choose(page, "Class", "dog")
    found = lesson.explain("dog", "third")
    bar = page.locator(".gcw-bar").nth(2)
    channel = int(bar.get_attribute("data-channel") or "")
    bar.hover()
    expect(page.locator(".gcw-picture")).to_have_attribute(
        "aria-label", re.compile(f"activation of channel {channel} at third")
    )
    tip = page.locator(".gcw-tip").inner_text().split("\n")
    mean = float(tip[tip.index("mean activation") + 1])
    assert mean == pytest.approx(float(found.mean_activations[channel]), rel=6e-3)
    most = float(found.activations[channel].max())
    assert limit(page) == pytest.approx(most, rel=0.05)  # two digits where it is small
    page.mouse.move(2, 2)
    expect(page.locator(".gcw-picture")).to_have_attribute("aria-label", re.compile("Grad-CAM for dog at third"))
    for order, keys in {
        "contribution": -found.contribution.abs().numpy(),
        "α": -found.alpha.numpy(),
        "channel": np.arange(20),
    }.items():
        page.get_by_label("Sort", exact=True).select_option(order)
        next_frame(page)
        assert bars(page) == np.argsort(keys, kind="stable")[:18].tolist()


def test_a_place_tells_what_the_channels_add_there(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choose(page, "Class", "owl")
    choose(page, "Layer", "second")
    terms = lesson.engine.terms(next(iter(lesson.pictures.values())), "owl", "second").numpy()
    box = page.locator(".gcw-picture").bounding_box()
    assert box is not None
    row, column = 3, 5
    page.mouse.click(box["x"] + (column + 0.5) / 8 * box["width"], box["y"] + (row + 0.5) / 8 * box["height"])
    expect(page.locator(".gcw-title")).to_contain_text(f"at cell ({row}, {column})")
    order = np.argsort(-np.abs(terms[:, row, column]), kind="stable")[:18]
    assert bars(page) == order.tolist()
    shown = page.locator(".gcw-bar").evaluate_all("all => all.map(bar => Number(bar.dataset.term))")
    np.testing.assert_allclose(shown, terms[order, row, column], rtol=2e-3, atol=1e-6)


def test_channels_can_be_left_out_and_the_model_is_not_asked(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choose(page, "Class", "cat")
    off = bars(page)[:3]
    for channel in off:
        page.locator(f'.gcw-bar[data-channel="{channel}"] .gcw-switch').click()
    expect(page.locator(".gcw-switchwords")).to_have_text("3 of 20 channels off")
    expect(page.get_by_role("button", name="Score without them")).to_have_count(0)
    lesson.widget.set(target="cat")
    try:
        lesson.widget.channels_off = off
        scene = lesson.widget._canvas.scene
        whole = lesson.explain("cat", "third")
        assert scene["max"] != pytest.approx(float(whole.cam.max()), rel=1e-2)
        assert limit(page) == pytest.approx(scene["max"], rel=0.05)
        count = scene["coverage"]["channels"]
        expect(page.locator(".gcw-coverage")).to_contain_text(f"{count} of 17 channels that are on")
    finally:
        lesson.widget.set(target=None)
    page.get_by_role("button", name="All on").click()
    expect(page.locator(".gcw-switchwords")).not_to_contain_text("off")


def test_the_strip_goes_through_the_layers(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choose(page, "Class", "fox")
    page.locator('.gcw-layer[data-name="first"]').click()
    expect(page.locator(".gcw-title")).to_have_text("αk for fox at first")
    expect(page.get_by_label("Layer", exact=True).locator("option:checked")).to_contain_text("first")
    assert page.get_by_role("button", name="Previous layer").is_disabled()
    np.testing.assert_allclose(alphas(page)[7], float(lesson.explain("fox", "first").alpha[7]), rtol=1e-4)
    page.get_by_role("button", name="Play through the layers").click()
    expect(page.locator(".gcw-title")).to_have_text("αk for fox at third", timeout=10_000)
    expect(page.get_by_role("button", name="Play through the layers")).to_be_visible(timeout=10_000)
    page.locator('.gcw-layer[data-name="third"]').press("ArrowLeft")
    expect(page.locator(".gcw-title")).to_have_text("αk for fox at second")
    page.get_by_role("button", name="Next layer").click()
    expect(page.locator(".gcw-title")).to_have_text("αk for fox at third")


def test_two_classes_side_by_side(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choose(page, "Class", "lynx")
    choose(page, "Layer", "second")
    choose(page, "Compare with", "crane")
    first, second = (lesson.explain(label, "second") for label in ("lynx", "crane"))
    expect(page.locator(".gcw-plate")).to_have_count(2)
    contrast = (first.signed_cam - second.signed_cam).abs().max()
    scales = [
        float(text.rpartition(" ")[2])
        for text in page.locator(".gcw-plate .gcw-scale").evaluate_all("a => a.map(e => e.ariaLabel)")
    ]
    assert scales[0] == pytest.approx(float(max(first.cam.max(), second.cam.max())), rel=6e-3)  # they share it
    assert scales[1] == pytest.approx(float(contrast), rel=6e-3)
    expect(page.locator(".gcw-plate-contrast .gcw-platefact")).to_have_text(
        re.compile(f"Δy = [+\u2212]{abs(first.score - second.score):.3g}"[:12])
    )
    split = int(((first.alpha > 0) & (second.alpha < 0)).sum())
    expect(page.locator(".gcw-coverage")).to_contain_text(f"{split} channel")
    page.get_by_text("Bars as a table").click()
    rows = page.locator(".gcw-table tbody tr")
    expect(rows.nth(4)).to_be_visible()
    for row in rows.all_inner_texts()[:5]:
        channel, one, other = (cell.strip().replace("\u2212", "-") for cell in row.split("\t")[:3])
        at = int(channel[1:])
        assert float(one) == pytest.approx(float(first.alpha[at]), rel=6e-3)
        assert float(other) == pytest.approx(float(second.alpha[at]), rel=6e-3)
    choose(page, "Compare with", "no comparison")
    expect(page.locator(".gcw-plate")).to_have_count(0)


def test_the_prediction_is_compared_with_the_truth(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    best = CLASSES[int(lesson.engine.predict(next(iter(lesson.pictures.values()))).argmax())]
    assert best != "owl"
    page.get_by_role("button", name="Compare prediction with truth").click()
    expect(page.get_by_label("Compare with", exact=True).locator("option:checked")).to_contain_text("owl")
    expect(page.get_by_label("Class", exact=True).locator("option:checked")).to_contain_text(best)


def test_the_box_and_the_scale(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    choose(page, "Class", "fox")
    choose(page, "Layer", "second")
    cam = lesson.explain("fox", "second").cam.numpy()
    page.get_by_label("Box").check()
    slider = page.get_by_label("Threshold")
    for threshold in (0.15, 0.6):
        slider.fill(str(threshold))
        left, top, right, bottom = find_box(enlarge(cam, (32, 32)), threshold) or ()
        expect(page.locator(".gcw-corners")).to_have_text(f"({left}, {top})–({right}, {bottom})")
    page.get_by_label("Scale", exact=True).select_option("shared")
    every = [float(lesson.explain("fox", name).cam.max()) for name in ("first", "second", "third")]
    assert limit(page) == pytest.approx(max(every), rel=0.05)


def test_opacity_and_colour_map_change_the_picture_at_once(show: Callable[..., Page]) -> None:
    page = show()
    before = pixels(page)
    choose(page, "Colour map", "magma")
    coloured = pixels(page)
    assert (coloured != before).any()
    page.get_by_label("Opacity", exact=True).fill("0")
    next_frame(page)
    bare = pixels(page)
    page.get_by_label("Evidence", exact=True).select_option("signed")
    expect(page.get_by_label("Colour map", exact=True).locator("option:checked")).not_to_have_text("magma")
    next_frame(page)
    np.testing.assert_array_equal(pixels(page), bare)  # the picture alone
    page.get_by_label("Evidence", exact=True).select_option("positive")
    expect(page.get_by_label("Colour map", exact=True).locator("option:checked")).to_have_text("magma")


def test_classes_and_channels(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show()
    page.get_by_role("button", name="Classes and channels").click()
    rows = page.locator(".gcw-classes tbody tr")
    expect(rows).to_have_count(5)
    table = lesson.widget.class_channels()
    assert page.locator(".gcw-classes thead th").all_inner_texts()[1:] == [f"#{k}" for k in table.channels]
    for text, label in zip(rows.locator("th").all_inner_texts(), table.labels, strict=True):
        assert text == label
    second = rows.nth(1).locator("button").first
    assert (second.get_attribute("aria-label") or "").startswith(f"{table.labels[1]}, channel {table.channels[0]}")
    second.click()
    expect(page.get_by_label("Class", exact=True).locator("option:checked")).to_contain_text(table.labels[1][:20])


def test_what_is_not_in_the_page_is_said(show: Callable[..., Page], lesson: Lesson, tmp_path: Path) -> None:
    best = lesson.engine.predict(next(iter(lesson.pictures.values()))).argsort(descending=True).tolist()
    few = lesson.widget.to_html(tmp_path / "few.html", layers=["third"], targets=best[:2])
    page = show(few)
    before = page.locator(".gcw").get_attribute("data-revision")
    expect(page.get_by_label("Picture", exact=True)).to_have_count(0)
    page.locator(".gcw-prediction").nth(3).click()
    expect(page.locator(".gcw-notice")).to_contain_text("has not been computed for this page")
    assert page.locator(".gcw").get_attribute("data-revision") == before  # and what is on show is what it was
    expect(page.locator(".gcw-title")).to_have_text(f"αk for {CLASSES[best[0]]} at third")
    page.get_by_role("button", name="Classes and channels").click()
    expect(page.locator(".gcw-classnote")).to_have_text("Not all of the likeliest classes are in this file.")
    page.locator(".gcw-prediction").nth(1).click()
    expect(page.locator(".gcw-title")).to_have_text(f"αk for {CLASSES[best[1]]} at third")
    expect(page.locator(".gcw-notice")).to_be_empty()


def test_hostile_words_are_words(show: Callable[..., Page]) -> None:
    page = show()
    choose(page, "Class", HOSTILE[:20])
    expect(page.locator(".gcw-title")).to_contain_text(HOSTILE)
    expect(page.locator(".handout-head p").first).to_have_text(f"First paragraph {HOSTILE}")
    expect(page.locator(".handout-questions li").nth(1)).to_have_text(f"Why? {HOSTILE}")
    assert page.locator("img, a, iframe, object").count() == 0
    assert page.locator("script").count() == 3


def test_on_a_phone(show: Callable[..., Page], lesson: Lesson) -> None:
    page = show(viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    picture = page.locator(".gcw-picture").bounding_box()
    assert picture is not None
    assert picture["width"] >= 280
    bar = page.locator(".gcw-bar").nth(1)
    assert (bar.bounding_box() or {})["height"] >= 24
    channel = bar.get_attribute("data-channel")
    bar.tap()
    expect(page.locator(".gcw-picture")).to_have_attribute(
        "aria-label", re.compile(f"activation of channel {channel}")
    )
    bar.tap()
    expect(page.locator(".gcw-picture")).to_have_attribute("aria-label", re.compile("Grad-CAM for"))
    choose(page, "Compare with", "owl")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper(show: Callable[..., Page], scheme: str, tmp_path: Path) -> None:
    page = show(color_scheme=scheme)
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2
    assert pdf.count(b"/Subtype /Image") >= 5  # picture, colour bar, overview, thumbnails
    choose(page, "Compare with", "owl")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) == 2  # three pictures abreast
    choose(page, "Compare with", "no comparison")
    # After printing it is again as it was.
    assert page.locator(".gcw").get_attribute("data-gcw-theme") == scheme
    page.set_viewport_size({"width": 672, "height": 950})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator(".gradcam-controls")).to_be_hidden()
    expect(page.locator(".gcw-play")).to_be_hidden()
    expect(page.locator(".handout-lines > div")).to_have_count(8)
    assert page.locator(".handout-lines > div").first.bounding_box()["height"] >= 30  # 8 mm
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    # The first question takes little paper, to stay on the page of the pictures, and none is split.
    under = page.locator(".gradcam-widget").bounding_box()
    lines = page.locator(".handout-lines").first.bounding_box()
    assert lines["y"] + lines["height"] - under["y"] - under["height"] <= 60 * 96 / 25.4
    for question in page.locator(".handout-questions li").all():
        assert question.evaluate("el => getComputedStyle(el).breakInside") == "avoid"
    ink = "el => getComputedStyle(el).color"
    assert page.locator(".gcw-title").evaluate(ink) == "rgb(0, 0, 0)"
    assert page.locator(".gcw-fill").first.evaluate("el => getComputedStyle(el).backgroundColor") in (
        "rgb(194, 65, 12)",
        "rgb(37, 99, 235)",
    )
    # Bars end where their column ends, also after the change of the width.
    for bar in page.locator(".gcw-bar").all():
        fill, track = bar.locator(".gcw-fill").bounding_box(), bar.locator(".gcw-track").bounding_box()
        assert fill["x"] >= track["x"] - 1
        assert fill["x"] + fill["width"] <= track["x"] + track["width"] + 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 672
    # The overview is drawn for the paper, also where the screen is dark.
    overview = pixels(page, ".gcw-overview")
    assert (overview[overview[..., 3] == 255][:, :3] == (194, 65, 12)).all(1).any()
    assert not (overview[..., :3] == (251, 146, 60)).all(-1).any()
    assert pixels(page)[..., :3].std() > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(show: Callable[..., Page], scheme: str) -> None:
    page = show(color_scheme=scheme)
    assert page.locator(".gcw").get_attribute("data-gcw-theme") == scheme
    assert violations(page, "html", impacts=("minor", "moderate", "serious", "critical")) == []
    choose(page, "Compare with", "owl")
    page.get_by_label("Box").check()
    assert violations(page, "html", impacts=("moderate", "serious", "critical")) == []


def test_by_keyboard(show: Callable[..., Page]) -> None:
    page = show()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Picture", exact=True)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".gcw-where .gcw-caption")).to_contain_text("two")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Previous layer")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".gcw-title")).to_contain_text("at second")
    bar = page.locator(".gcw-bar").first
    bar.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    channel = page.locator(".gcw-bar").nth(1).get_attribute("data-channel")
    expect(page.locator(".gcw-picture")).to_have_attribute(
        "aria-label", re.compile(f"activation of channel {channel}")
    )
    page.keyboard.press("Escape")
    page.locator(".gcw-picture").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".gcw-title")).to_contain_text("at cell")


def test_a_page_that_is_damaged_says_so(browser: Browser, lesson: Lesson, tmp_path: Path) -> None:
    half = tmp_path / "half.html"
    text = lesson.path.read_text("utf-8")
    at = text.index('id="handout-numbers">') + 60
    half.write_text(text[:at] + text[at + 400 :], "utf-8")
    page = browser.new_page()
    page.goto(half.as_uri())
    expect(page.get_by_role("alert")).to_contain_text("This page cannot be shown.")
    expect(page.get_by_role("heading", level=1)).to_contain_text("What it sees")
    page.close()


def test_the_list_of_classes_says_a_probability_as_the_bars_do(show):
    page = show()
    option = page.get_by_label("Class", exact=True).locator("option:checked").inner_text()
    label, _, number = option.rpartition(" · ")
    explained = page.locator(".gcw-explained")
    assert [label, number] == explained.locator(".gcw-label, .gcw-value").all_inner_texts()
