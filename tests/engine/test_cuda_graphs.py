"""Recorded backward passes: which are recorded, what they give, and when a model goes on without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM, gradients
from gradcam_widget.targets import ClassProbability

from .tape import TapeRecorder, backward_replaying

PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.left(x)) * torch.sigmoid(self.right(x).mean((2, 3), keepdim=True))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(2)
    body = [nn.Conv2d(3, 8, 3, padding=1), *(Block() for _ in range(3)), nn.Conv2d(8, 8, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.Conv2d(8, 30, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@pytest.fixture(params=["sums", "gradients"])
def little(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a pass leaves the sums on its way behind, or all the gradients."""
    monkeypatch.setattr(gradients, "_LITTLE", 0 if request.param == "sums" else 2**30)


ASK: dict[str, Callable[[GradCAM, int], object]] = {
    "first": lambda cam, k: [cam.explain(PICTURE, k, "0")],
    "layers": lambda cam, k: list(cam.explain_layers(PICTURE, k).values()),
    "down in two": lambda cam, k: [cam.explain(PICTURE, k, layer) for layer in ("3.left", "1", "0", "3.right")],
    "whole": lambda cam, k: [cam.explain(PICTURE, k, layer, "LayerCAM") for layer in ("2", "1.left")],
}


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("ask", ASK)
def test_replayed_passes_give_the_maps_of_passes_that_are_run(model, ask):
    recorder = TapeRecorder()
    cam, replays = backward_replaying(model, recorder)
    alone = GradCAM(model)
    kept = []
    for target in range(7):
        for found, expected in zip(ASK[ask](cam, target), ASK[ask](alone, target), strict=True):
            kept.append((found, expected))
    assert cam.passes == alone.passes
    assert recorder.recorded > 0
    assert replays.replayed >= 5
    assert replays.reason == ""
    for found, expected in kept:  # also those that were made before the memory was written to again
        assert torch.equal(found.alpha, expected.alpha)
        assert torch.equal(found.signed_cam, expected.signed_cam)
    for target in range(7):  # what is kept is not what is written to
        for found, expected in zip(ASK[ask](cam, target), ASK[ask](alone, target), strict=True):
            assert torch.equal(found.alpha, expected.alpha)


@pytest.mark.usefixtures("little")
def test_a_way_is_recorded_the_third_time_and_once_for_each_picture(model):
    recorder = TapeRecorder()
    cam, replays = backward_replaying(model, recorder)
    # There are two ways: to the pooled features, and from there to the first layer.
    for target in range(2):
        cam.explain(PICTURE, target, "0")
    assert (recorder.recorded, replays.replayed) == (0, 0)
    for target in range(2, 6):
        cam.explain(PICTURE, target, "0")
    assert (recorder.recorded, replays.replayed) == (2, 8)
    for target in range(4):
        cam.explain(1 - PICTURE, target, "0")
    assert (recorder.recorded, replays.replayed) == (4, 12)
    assert recorder.inside == 2  # both forward passes


@pytest.mark.usefixtures("little")
def test_the_part_of_a_target_of_any_kind_is_run_and_the_models_is_replayed(model):
    recorder = TapeRecorder()
    cam, replays = backward_replaying(model, recorder)
    alone = GradCAM(model)
    for k in range(5):
        found, expected = (engine.explain(PICTURE, ClassProbability(k), "0") for engine in (cam, alone))
        assert torch.equal(found.alpha, expected.alpha)
    assert (recorder.recorded, replays.replayed) == (1, 3)  # from the pooled features down


@pytest.mark.usefixtures("little")
def test_what_recordings_hold_counts_and_goes_with_the_rest(model):
    cam, _ = backward_replaying(model, TapeRecorder(held=10**6))
    for target in range(2):
        cam.explain(PICTURE, target, "0")
    before = cam.memory().gradients
    cam.explain(PICTURE, 2, "0")
    assert 2 * 10**6 <= cam.memory().gradients - before < 3 * 10**6  # of two recordings
    assert cam.memory().total == cam._cache.bytes
    cam.close()
    assert cam.memory().total == 0


@pytest.mark.usefixtures("little")
def test_a_pass_that_cannot_be_recorded_is_run_and_the_reason_is_told(model):
    cam, replays = backward_replaying(
        model, TapeRecorder(RuntimeError("operation not permitted when stream is capturing"))
    )
    alone = GradCAM(model)
    for target in range(5):
        assert torch.equal(cam.explain(PICTURE, target, "0").alpha, alone.explain(PICTURE, target, "0").alpha)
    assert replays.replayed == 0
    assert "not permitted when stream is capturing" in cam.eager_because


@pytest.mark.usefixtures("little")
def test_hooks_of_the_models_own_on_the_graph_are_called_each_time(model):
    calls = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y.register_hook(lambda gradient: calls.append(1))
            return y

    model.insert(4, Watched())
    cam, replays = backward_replaying(model, TapeRecorder())
    cam.layers(PICTURE)
    for target in range(5):
        cam.explain(PICTURE, target, "0")
    assert len(calls) == 5
    assert "hooks" in replays.reason


def test_out_of_memory_while_recording_is_told_as_ever(model):
    cam, _ = backward_replaying(model, TapeRecorder(torch.cuda.OutOfMemoryError("CUDA out of memory")))
    for target in range(2):
        cam.explain(PICTURE, target, "0")
    # What is kept is freed and the pass is tried once more, now as the first along its way.
    assert torch.equal(cam.explain(PICTURE, 2, "0").alpha, GradCAM(model).explain(PICTURE, 2, "0").alpha)
    assert cam.memory().pictures == 1


def test_without_a_gpu_it_is_told_that_nothing_is_replayed(model):
    cam = GradCAM(model, device="cpu", cuda_graphs=True)
    cam.explain(PICTURE, 1, "0")
    assert "not on a GPU" in cam.eager_because
    assert "not asked for" in GradCAM(model).eager_because


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU, and there is none here")
@pytest.mark.parametrize("ask", ASK)
def test_on_a_gpu_replayed_passes_give_the_maps_of_passes_that_are_run(model, ask):
    model.cuda()
    cam, alone = GradCAM(model, cuda_graphs=True), GradCAM(model)
    for target in range(7):
        for found, expected in zip(ASK[ask](cam, target), ASK[ask](alone, target), strict=True):
            torch.testing.assert_close(found.signed_cam, expected.signed_cam, rtol=1e-4, atol=1e-6)
    assert cam.eager_because is None
    assert cam._replays.replayed > 0
