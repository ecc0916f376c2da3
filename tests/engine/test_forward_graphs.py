"""Recorded forward passes: other pictures in the same memory, each with its own map, and when there are none."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from gradcam_widget import GradCAM
from gradcam_widget.methods import METHODS

from .tape import TapeRecorder, replaying

CUDA = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU, and there is none here"
)


def pictures(count: int, size: int = 24, channels: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(size)
    return [torch.rand(1, channels, size, size, generator=draw) for _ in range(count)]


class Residual(nn.Module):
    """Operations that are no modules, and values that autograd keeps of them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.left(x)) * torch.sigmoid(self.right(x).mean((2, 3), keepdim=True))


def network(*, inplace: bool = False) -> nn.Module:
    torch.manual_seed(3)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace), Residual(), nn.MaxPool2d(2)]
    body += [Residual(), nn.Conv2d(8, 16, 1), nn.Hardswish(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(16, 12)).eval()


@pytest.fixture(params=["plain", "in place"])
def model(request) -> nn.Module:
    return network(inplace=request.param == "in place")


def same(found, expected) -> None:
    assert found.layer.name == expected.layer.name
    assert (found.score, found.probability) == (expected.score, expected.probability)
    assert torch.equal(found.alpha, expected.alpha)
    assert torch.equal(found.signed_cam, expected.signed_cam)
    assert torch.equal(found.activations, expected.activations)
    assert torch.equal(found.mean_activations, expected.mean_activations)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "CAM"])
def test_every_picture_has_the_map_of_an_engine_that_records_nothing(model, method):
    cam, graphs = replaying(model, TapeRecorder())
    alone = GradCAM(model)
    kept = []
    for number, picture in enumerate(pictures(6)):
        for layer, target in (("6", 1), ("3.left", 2), ("0", number)):
            kept.append([engine.explain(picture, target, layer, method) for engine in (cam, alone)])
    assert graphs.reason == ""
    assert graphs.replayed == 3
    for found, expected in kept:  # also those that were made before the memory was written to again
        same(found, expected)


def test_other_calls_have_the_answers_of_an_engine_that_records_nothing(model):
    cam, graphs = replaying(model, TapeRecorder())
    alone = GradCAM(model)
    for picture in pictures(6):
        assert torch.equal(cam.predict(picture), alone.predict(picture))
        assert cam.layers(picture) == alone.layers(picture)
        assert cam.default_layer(picture, 3) == alone.default_layer(picture, 3)
        assert torch.equal(cam.terms(picture, 3, "4"), alone.terms(picture, 3, "4"))
        assert cam.ablate(picture, [0, 2], 3, "4") == alone.ablate(picture, [0, 2], 3, "4")
        for found, expected in zip(
            cam.explain_targets(picture, range(9), "4"), alone.explain_targets(picture, range(9), "4"), strict=True
        ):
            same(found, expected)
        for name, found in cam.explain_layers(picture, 5).items():
            same(found, alone.explain(picture, 5, name))
    assert graphs.replayed == 3


def test_what_was_recorded_of_backward_passes_holds_for_the_next_picture(model):
    recorder = TapeRecorder()
    cam, _ = replaying(model, recorder)
    first, *others = pictures(12)
    for picture in (first, *others[:3]):
        for target in range(4):
            cam.explain(picture, target, "0")
    recorded, replayed = recorder.recorded, cam._replays.replayed
    alone = GradCAM(model)
    for picture in others[3:]:
        same(cam.explain(picture, 7, "0"), alone.explain(picture, 7, "0"))
    assert recorder.recorded == recorded
    assert cam._replays.replayed > replayed
    assert cam.eager_because is None


def test_a_pass_is_recorded_at_the_third_picture_and_counted(model):
    recorder = TapeRecorder()
    cam, graphs = replaying(model, recorder)
    forward = []
    for picture in pictures(5):
        cam.predict(picture)
        forward.append((cam.passes.forward, recorder.recorded, graphs.replayed))
    # The third picture runs once as ever, and once to be recorded.
    assert forward == [(1, 0, 0), (2, 0, 0), (4, 1, 0), (5, 1, 1), (6, 1, 2)]
    assert cam.memory().pictures == 3  # the first two, and the one in the recorded memory
    assert cam.trace_number == 4


def test_a_picture_that_was_written_over_is_run_again(model):
    cam, _ = replaying(model, TapeRecorder())
    alone = GradCAM(model)
    some = pictures(5)
    numbers = set()
    for picture in [*some, *reversed(some), *some]:
        same(cam.explain(picture, 4, "1"), alone.explain(picture, 4, "1"))
        numbers.add(cam.trace_number)
    # Kept are the first two, and of the others the one that came last: 5 passes on the way there, 2 each way back.
    assert len(numbers) == 9


def test_each_size_has_a_recording_of_its_own(model):
    recorder = TapeRecorder()
    cam, graphs = replaying(model, recorder)
    alone = GradCAM(model)
    for small, large in zip(pictures(5, 16), pictures(5, 20), strict=True):
        for picture in (small, large):
            same(cam.explain(picture, 2, "3.right"), alone.explain(picture, 2, "3.right"))
    assert graphs.replayed == 4


def test_another_call_inside_a_call_leaves_its_memory_alone(model):
    cam, _ = replaying(model, TapeRecorder())
    *first, last, other = pictures(5)
    for picture in first:
        cam.predict(picture)
    alone = GradCAM(model)
    inner = []

    def progress(done: int, total: int) -> None:
        inner.append(cam.explain(other, 1, "0"))

    same(cam.explain(last, 4, "6", "ScoreCAM", progress=progress), alone.explain(last, 4, "6", "ScoreCAM"))
    assert len(inner) > 1
    for found in inner:
        same(found, alone.explain(other, 1, "0"))


def test_calls_that_let_others_in_keep_their_picture(model):
    cam, graphs = replaying(model, TapeRecorder())
    *first, last, other = pictures(5)
    for picture in first:
        cam.predict(picture)
    alone = GradCAM(model)
    expected = alone.occlude(last, 4)

    def progress(done: int, total: int) -> None:
        same(cam.explain(other, 1, "0"), alone.explain(other, 1, "0"))

    before = graphs.replayed
    found = cam.occlude(last, 4, progress=progress)
    assert graphs.replayed > before  # the other picture was written over this one
    assert found.score == expected.score
    assert (found.drop == expected.drop).all()
    versions = lambda picture, batch: torch.cat([picture * (1 + k / 10) for k in batch])  # noqa: E731
    values = cam.score_versions(last, versions, 70, 4, progress=progress)
    assert torch.equal(values, alone.score_versions(last, versions, 70, 4))


def test_two_threads_with_two_pictures(model):
    cam, _ = replaying(model, TapeRecorder())
    alone = GradCAM(model)
    some = pictures(6)
    expected = [alone.explain(picture, 3, "0") for picture in some]
    wrong = []

    def ask(start: int) -> None:
        for turn in range(12):
            number = (start + turn) % len(some)
            try:
                same(cam.explain(some[number], 3, "0"), expected[number])
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(start,)) for start in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_changed_model_is_run_and_recorded_anew(model):
    recorder = TapeRecorder()
    cam, graphs = replaying(model, recorder)
    for picture in pictures(5):
        cam.explain(picture, 1, "0")
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    alone = GradCAM(model)
    for picture in pictures(5):
        same(cam.explain(picture, 1, "0"), alone.explain(picture, 1, "0"))
    model[6] = nn.Conv2d(8, 16, 3)
    for picture in pictures(5):
        same(cam.explain(picture, 1, "0"), alone.explain(picture, 1, "0"))
    assert graphs.reason == ""


def test_torch_told_to_compute_otherwise_is_not_answered_by_the_recording(model):
    cam, graphs = replaying(model, TapeRecorder())
    *first, last = pictures(5)
    for picture in first:
        cam.predict(picture)
    before = graphs.replayed
    was = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = not was
    try:
        cam.predict(last)
    finally:
        torch.backends.cudnn.deterministic = was
    assert graphs.replayed == before
    cam.predict(pictures(6)[-1])
    assert graphs.replayed == before + 1


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x * 2


class Alternating(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x if self.calls % 2 else x * 3


def test_a_pass_that_writes_to_a_buffer_is_not_recorded(model):
    model.insert(3, Counting())
    cam, graphs = replaying(model, TapeRecorder())
    alone = GradCAM(model)
    for picture in pictures(5):
        same(cam.explain(picture, 1, "0"), alone.explain(picture, 1, "0"))
        assert model[3].seen == 0
    assert graphs.replayed == 0
    assert (
        "forward passes: the model has hooks, or its pass writes to its parameters or buffers" in cam.eager_because
    )


@pytest.mark.parametrize("place", ["its own", "every module's"])
def test_a_model_with_hooks_of_its_users_is_not_recorded(model, place):
    calls = []
    register = model[3].register_forward_hook if place == "its own" else register_module_forward_hook
    handle = register(lambda module, *_: calls.append(1) if module is model[3] else None)
    try:
        cam, graphs = replaying(model, TapeRecorder())
        for picture in pictures(5):
            cam.predict(picture)
    finally:
        handle.remove()
    assert len(calls) == 5
    assert graphs.replayed == 0
    assert "hooks" in cam.eager_because


def test_a_recording_that_gives_something_else_is_not_believed(model):
    model.insert(3, Alternating())
    cam, graphs = replaying(model, TapeRecorder())
    for picture in pictures(5):
        cam.predict(picture)
    assert graphs.replayed == 0
    assert "did not give what the pass itself gave" in cam.eager_because


def test_a_pass_that_cannot_be_recorded_is_run_and_the_reason_is_told(model):
    cam, graphs = replaying(model, TapeRecorder(RuntimeError("operation not permitted when stream is capturing")))
    alone = GradCAM(model)
    for picture in pictures(5):
        same(cam.explain(picture, 1, "0"), alone.explain(picture, 1, "0"))
    assert graphs.replayed == 0
    assert "not permitted when stream is capturing" in cam.eager_because


def test_out_of_memory_while_recording_is_told_as_ever(model):
    cam, _ = replaying(model, TapeRecorder(torch.cuda.OutOfMemoryError("CUDA out of memory")))
    first, second, third = pictures(3)
    for picture in (first, second):
        cam.predict(picture)
    with pytest.raises(MemoryError, match="has not enough for an input of 1 × 3 × 24 × 24"):
        cam.predict(third)
    assert cam.memory().total == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupted_pass_leaves_no_picture_under_another_ones_name(model, moment):
    cam, _ = replaying(model, TapeRecorder())
    *first, last, other = pictures(6)
    for picture in (*first, last):
        cam.explain(picture, 1, "0")
    (again,) = [kept.again for _, kept in cam._cache.roots() if kept.again is not None]
    trace = cam._cache.peek(cam.trace_number)

    def interrupted() -> None:
        if moment == "after":
            again.run()
        raise KeyboardInterrupt

    trace.again = again._replace(run=interrupted)
    with pytest.raises(KeyboardInterrupt):
        cam.explain(other, 1, "0")
    alone = GradCAM(model)
    for picture in (last, other, *first):
        same(cam.explain(picture, 1, "0"), alone.explain(picture, 1, "0"))


def test_what_is_recorded_counts_within_the_budget_and_goes(model):
    cam, _ = replaying(model, TapeRecorder(held=5 * 10**6))
    for picture in pictures(4):
        cam.predict(picture)
    assert 5 * 10**6 <= cam.memory().traces < 6 * 10**6
    cam.close()
    assert cam.memory().total == 0
    small, _ = replaying(model, TapeRecorder(held=5 * 10**6), memory_budget=10**6)
    alone = GradCAM(model)
    for picture in pictures(5):
        same(small.explain(picture, 1, "0"), alone.explain(picture, 1, "0"))
    assert small.memory().total <= 10**6


def test_pictures_of_several_tensors(model):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.side = model, nn.Linear(4, 12)

        def forward(self, x: Tensor, extra: Tensor) -> Tensor:
            return self.body(x) * self.side(extra)

    both = Two().eval()
    cam, graphs = replaying(both, TapeRecorder())
    alone = GradCAM(both)
    for number, picture in enumerate(pictures(5)):
        inputs = (picture, torch.full((1, 4), float(number)))
        same(cam.explain(inputs, 1, "body.0"), alone.explain(inputs, 1, "body.0"))
    assert graphs.replayed == 2


def test_the_model_is_left_as_it_was(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    cam, graphs = replaying(model, TapeRecorder())
    for picture in pictures(5):
        cam.explain(picture, 1, "0")
    assert graphs.replayed == 2
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@CUDA
def test_on_a_gpu_recorded_passes_give_the_maps_of_passes_that_are_run(model):
    model.cuda()
    cam, alone = GradCAM(model, cuda_graphs=True), GradCAM(model)
    state = torch.cuda.get_rng_state()
    for picture in pictures(6):
        for target, layer in ((1, "0"), (2, "3.left"), (3, "6"), (4, "0"), (5, "0")):
            found, expected = cam.explain(picture, target, layer), alone.explain(picture, target, layer)
            torch.testing.assert_close(found.signed_cam, expected.signed_cam, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-4, atol=1e-6)
    assert cam.eager_because is None
    assert cam._forward_graphs.replayed == 3
    assert torch.equal(torch.cuda.get_rng_state(), state)


@CUDA
def test_on_a_gpu_a_model_that_looks_at_a_value_is_run(model):
    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.max()) > 0 else -x

    model.insert(3, Looking())
    model.cuda()
    cam, alone = GradCAM(model, cuda_graphs=True), GradCAM(model)
    for picture in pictures(5):
        found, expected = cam.explain(picture, 1, "0"), alone.explain(picture, 1, "0")
        torch.testing.assert_close(found.signed_cam, expected.signed_cam, rtol=1e-4, atol=1e-6)
    assert "forward passes" in cam.eager_because
