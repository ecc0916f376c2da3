"""Deletion and insertion: by hand, beside a slow version in float64, and what a check may not do."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradcam_widget
from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate import deletion_insertion
from gradcam_widget.evaluate.curves import Curves, blurred
from gradcam_widget.evaluate.question import Subject
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.targets import ClassProbability

from .nets import plain


class Red(nn.Module):
    """Two logits: the mean of the red channel, and minus that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [-1, 0, 0]]).view(2, 3, 1, 1))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def red(values: list[list[float]]) -> Tensor:
    picture = torch.zeros(1, 3, len(values), len(values[0]))
    picture[0, 0] = torch.tensor(values)
    return picture


def logit(scores: Tensor) -> Tensor:
    return scores[0]


PICTURE = red([[4, 3], [2, 1]])


def test_the_curves_by_hand():
    # The score is the mean of 4, 3, 2, 1. The map is the picture itself, so they go in this order and become 0:
    # (10, 6, 3, 1, 0) / 4, and come in this order into nothing: (0, 4, 7, 9, 10) / 4. By trapezoids of width 1/4:
    # (2.5/2 + 1.5 + 0.75 + 0.25 + 0/2) / 4 = 0.9375 and (0/2 + 1 + 1.75 + 2.25 + 2.5/2) / 4 = 1.5625.
    found = deletion_insertion(
        GradCAM(Red()), PICTURE, logit, "conv", steps=4, insertion_baseline="zero", references=0
    )
    assert found.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(found.deletion, [2.5, 1.5, 0.75, 0.25, 0], rtol=1e-6)
    np.testing.assert_allclose(found.insertion, [0, 1, 1.75, 2.25, 2.5], rtol=1e-6)
    assert (found.deletion_area, found.insertion_area) == (pytest.approx(0.9375), pytest.approx(1.5625))
    assert (found.pixels, found.quantity, found.baselines) == (1, "score", ("zero", "zero"))
    assert found.random_deletion_areas == ()
    assert "nothing to compare them with" in found.verdict


def test_steps_that_do_not_divide_the_pixels():
    # ceil(4 / 3) = 2 pixels at a step: none, two, all.
    found = deletion_insertion(GradCAM(Red()), PICTURE, logit, steps=3, references=0)
    assert (found.pixels, found.shares.tolist()) == (2, [0, 0.5, 1])
    np.testing.assert_allclose(found.deletion, [2.5, 0.75, 0], rtol=1e-6)


def test_one_step_is_all_or_nothing():
    found = deletion_insertion(GradCAM(Red()), PICTURE, logit, steps=1, insertion_baseline="zero", references=1)
    assert (found.pixels, found.shares.tolist()) == (4, [0, 1])
    # All orders are one: the score is 2.5 with all pixels, and 0 with none.
    np.testing.assert_allclose([found.deletion, found.random_deletions[0]], [[2.5, 0]] * 2, rtol=1e-6)
    np.testing.assert_allclose([found.insertion, found.random_insertions[0]], [[0, 2.5]] * 2, rtol=1e-6)


def test_equal_values_go_in_reading_order_and_a_heatmap_of_ones_own_is_taken():
    # All equal: 4, 3, 2, 1 go as they are read, which is their own order here. Turned round it is 1, 2, 3, 4.
    flat = deletion_insertion(GradCAM(Red()), PICTURE, logit, heatmap=np.ones((2, 2)), steps=4, references=0)
    np.testing.assert_allclose(flat.deletion, [2.5, 1.5, 0.75, 0.25, 0], rtol=1e-6)
    turned = deletion_insertion(
        GradCAM(Red()), PICTURE, logit, heatmap=torch.tensor([[1, 2], [3, 4]]), steps=4, references=0
    )
    np.testing.assert_allclose(turned.deletion, [2.5, 2.25, 1.75, 1, 0], rtol=1e-6)
    assert turned.subject.method == "heatmap"


def test_the_probability_of_a_class_by_hand():
    # p = 1 / (1 + exp(-2 y)) of the logits y and -y; y goes 2.5, 0.75, 0.
    found = deletion_insertion(GradCAM(Red()), PICTURE, 0, steps=2, references=0)
    np.testing.assert_allclose(found.deletion, 1 / (1 + np.exp(-2 * np.array([2.5, 0.75, 0]))), rtol=1e-6)
    assert found.quantity == "probability"


def test_the_map_that_marks_what_counts_and_the_one_that_does_not():
    # All of the score lies in the left half; the map that says so deletes it first, the other one last.
    picture = torch.zeros(1, 3, 14, 14)
    picture[..., :7] = 1
    right = deletion_insertion(GradCAM(Red()), picture, logit, heatmap=picture[0, 0], steps=7)
    assert right.verdict.endswith("the map marks what counts.")
    wrong = deletion_insertion(GradCAM(Red()), picture, logit, heatmap=1 - picture[0, 0], steps=7)
    assert wrong.verdict.endswith("it does not mark what counts.")
    assert len(right.random_deletion_areas) == 3
    assert right.deletion_area < min(right.random_deletion_areas)


def curves(deletion: float, insertion: float, scale: float = 1.0) -> Curves:
    """Of areas that are given, against one random map with the areas 0.5; all of it in units of ``scale``."""
    line = np.array([1.0, 0.0]) * scale
    return Curves(
        subject=Subject("class 0", "conv", "GradCAM"),
        quantity="probability",
        shares=np.array([0.0, 1.0]),
        deletion=line,
        insertion=line[::-1],
        deletion_area=deletion * scale,
        insertion_area=insertion * scale,
        random_deletions=line[None],
        random_insertions=line[None, ::-1],
        pixels=1,
        baselines=("zero", "blur"),
    )


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_areas_that_hardly_differ_are_no_success(scale):
    assert "does not mark what counts" in curves(0.499, 0.501, scale).verdict
    assert "only in part" in curves(0.499, 0.52, scale).verdict
    assert curves(0.48, 0.52, scale).verdict.endswith("the map marks what counts.")


def test_small_areas_are_told_in_digits_that_differ():
    assert "(areas 0.000048 and 0.000052; of random maps 0.000050 and 0.000050" in curves(0.48, 0.52, 1e-4).verdict


def test_it_equals_a_slow_version_in_float64():
    model = plain().double()
    cam, picture = GradCAM(model), torch.randn(1, 3, 12, 10, dtype=torch.float64)
    found = deletion_insertion(cam, picture, 3, "3", steps=6, references=0)
    heat = cam.explain(picture, 3, "3").heatmap().numpy()
    places = sorted(range(120), key=lambda i: (-heat.flat[i], i))
    start, step = blurred(picture), 20
    deletion, insertion = [], []
    for count in range(0, 121, step):
        gone, there = picture.clone(), start.clone()
        for i in places[:count]:
            gone[0, :, i // 10, i % 10] = 0
            there[0, :, i // 10, i % 10] = picture[0, :, i // 10, i % 10]
        with torch.no_grad():
            deletion.append(float(model(gone).softmax(1)[0, 3]))
            insertion.append(float(model(there).softmax(1)[0, 3]))
    np.testing.assert_allclose(found.deletion, deletion, atol=1e-12)
    np.testing.assert_allclose(found.insertion, insertion, atol=1e-12)
    assert found.deletion_area == pytest.approx(np.trapezoid(deletion, found.shares), abs=1e-12)


def test_the_blur_by_hand():
    # A column of ones at the edge, which goes on beyond it. Shorter side 16: sigma 1, radius 3, weights
    # exp(-x^2/2): the column itself gets all that lies at or beyond it, the third one right of it only the
    # outermost weight.
    picture = torch.zeros(1, 1, 16, 16)
    picture[..., 0] = 1
    weights = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    weights /= weights.sum()
    row = blurred(picture)[0, 0, 8].numpy()
    np.testing.assert_allclose(
        row[:5], [weights[:4].sum(), weights[:3].sum(), weights[:2].sum(), weights[0], 0], atol=1e-6
    )


def test_nothing_of_the_users_is_touched():
    model = plain().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    picture = torch.randn(3, 16, 16)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    deletion_insertion(GradCAM(model), picture, 1, steps=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_the_same_seed_gives_the_same_numbers():
    cam, picture = GradCAM(plain()), torch.randn(3, 16, 16)
    once, again, other = (deletion_insertion(cam, picture, 1, steps=4, seed=seed) for seed in (5, 5, 6))
    assert once.random_deletion_areas == again.random_deletion_areas != other.random_deletion_areas


def test_progress_counts_passes_and_cancels():
    cam, heard = GradCAM(plain()), []
    found = deletion_insertion(
        cam, torch.randn(3, 16, 16), 1, steps=4, references=1, progress=lambda *at: heard.append(at)
    )
    # Whole, gone, nothing; then 3 inner steps of 2 curves for 2 maps.
    assert heard[-1] == (15, 15)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})
    assert len(found.shares) == 5
    with pytest.raises(Cancelled, match="cancelled after 4 of 15"):
        deletion_insertion(cam, torch.randn(3, 16, 16), 1, steps=4, references=1, progress=lambda *_: False)


def test_others_are_answered_between_the_batches():
    cam = GradCAM(plain())
    picture, answers = torch.randn(3, 16, 16), []

    def ask_from_another_thread(done: int, total: int) -> None:
        import threading

        thread = threading.Thread(target=lambda: answers.append(cam.explain(picture, 2).score))
        thread.start()
        thread.join(60)

    deletion_insertion(cam, picture, 1, steps=4, references=1, progress=ask_from_another_thread)
    assert len(answers) == 4


def test_versions_of_a_picture_are_scored_in_their_order():
    cam = GradCAM(Red())
    values = cam.score_versions(
        PICTURE, lambda first, batch: torch.cat([first * n for n in batch]), 20, ClassProbability(0)
    )
    np.testing.assert_allclose(values, 1 / (1 + np.exp(-5.0 * np.arange(20))), rtol=1e-6)
    assert values.dtype == torch.float64
    assert cam.passes.forward >= 20


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"steps": 0}, ValueError, "steps: expected 1 or more; got 0"),
        ({"steps": 2.5}, TypeError, "steps: expected an int"),
        ({"references": -1}, ValueError, "references: expected 0 or more"),
        ({"deletion_baseline": "black"}, ValueError, "deletion_baseline: expected zero or blur; got 'black'"),
        ({"insertion_baseline": "noise"}, ValueError, "insertion_baseline: expected zero or blur"),
        ({"heatmap": np.zeros((3, 3))}, ValueError, r"heatmap: expected the size of the picture, \(2, 2\)"),
        ({"heatmap": [[float("nan")] * 2] * 2}, ValueError, "heatmap: expected finite values"),
        ({"heatmap": "x"}, TypeError, r"heatmap: expected numbers \(H, W\); got str"),
        ({"heatmap": [[1, 2], [3]]}, TypeError, r"heatmap: expected numbers \(H, W\); got list"),
        ({"heatmap": np.full((2, 2), 1j)}, TypeError, "heatmap: .* got ndarray of complex128"),
        ({"deletion_baseline": np.zeros(2)}, ValueError, "deletion_baseline: expected zero or blur"),
        ({"references": True}, TypeError, "references: expected an int"),
        ({"seed": "a"}, TypeError, "seed: expected an int, as seed=0; got 'a', a str"),
        ({"seed": True}, TypeError, "seed: expected an int"),
        ({"seed": 2**64}, ValueError, "seed: expected an int of 64 bits"),
        ({"image": (1, 2)}, TypeError, r"image: a tuple must hold the model's input tensors; got \(int, int\)"),
        ({"image": ()}, TypeError, "image: a tuple must hold the model's input tensors"),
        ({"method": "GradCam"}, ValueError, "method"),
        ({"target": 7.5}, TypeError, "target: expected None"),
        ({"layer": "no"}, ValueError, "the model has no module 'no'"),
        ({"progress": 3}, TypeError, "progress: expected a function"),
    ],
)
def test_wrong_arguments_are_told_before_the_model_runs(arguments, error, match):
    cam = GradCAM(Red())
    with pytest.raises(error, match=match):
        deletion_insertion(cam, **{"image": PICTURE, **arguments})
    assert cam.passes.forward == 0


def test_only_an_engine_is_taken_and_only_pictures():
    with pytest.raises(TypeError, match=r"cam: expected a gradcam_widget.GradCAM; got Red. Use GradCAM\(model\)"):
        deletion_insertion(Red(), PICTURE)
    volume = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with pytest.raises(ValueError, match=r"checks are for pictures"):
        deletion_insertion(GradCAM(volume), torch.randn(1, 4, 4, 4))


def test_the_figures_are_drawn_without_pyplot():
    found = deletion_insertion(GradCAM(Red()), PICTURE, 0, steps=2)
    for dark in (False, True):
        figure = found.figure(dark=dark)
        titles = [ax.get_title(loc="left") for ax in figure.axes]
        assert titles[0].startswith(f"Deletion: area {found.deletion_area:.2f}")
        assert len(figure.axes[0].lines) == 4  # three random maps, and the curve
        figure.canvas.draw()


def test_it_is_reached_through_the_package():
    assert gradcam_widget.evaluate.deletion_insertion is deletion_insertion
