"""The lessons' pages name pictures, classes and layers that there are, and can be written."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from gradcam_widget import GradCAM
from gradcam_widget.models import demo_model, sample_images

SCRIPT = Path(__file__).parents[1] / "notebooks" / "handouts.py"


@pytest.fixture(scope="module")
def handouts():
    spec = importlib.util.spec_from_file_location("handouts", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["handouts"] = module  # where its dataclass looks for its own module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["handouts"]


@pytest.fixture(scope="module")
def cam():
    with GradCAM(demo_model()) as engine:
        yield engine


def test_what_the_pages_name_is_there(handouts, cam):
    pictures = sample_images()
    layers = {layer.name for layer in cam.layers(pictures["chelsea"])}
    for handout in handouts.HANDOUTS:
        assert set(handout.pictures) <= set(pictures)
        assert set(handout.targets) | set((handout.labels or {}).values()) <= set(cam.class_names)
        assert handout.layers
        assert set(handout.layers) <= layers
        assert set(handout.labels or {}) <= set(handout.pictures)


def test_a_page_is_written_with_the_lessons_title_and_its_questions(handouts, cam, tmp_path):
    handout = next(handout for handout in handouts.HANDOUTS if handout.lesson == 4)
    path = handouts.write(handout, cam, tmp_path)
    assert path.name == "04_which_class.html"
    page = path.read_text(encoding="utf-8")
    assert "4. Which class?" in page
    assert "does the network know which is which?" in page
    for question in handout.questions:
        assert question in page
    assert path.stat().st_size < 1_500_000
