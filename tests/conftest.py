"""What all tests share: fixed seeds, and the demo model and its pictures, loaded once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

# every thread of a small machine waiting for every other one is slower than two of them at work
os.environ.setdefault("OMP_NUM_THREADS", "2")


def pytest_configure() -> None:
    """Let a run that is told to end take down what it has started, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test draws the same random numbers, whichever ran before it."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Torch on one thread: quicker for many small networks, and sums are the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def demo() -> nn.Module:
    """The embedded network; shared, so a test that changes it works on a copy."""
    from gradcam_widget.models import demo_model

    return demo_model()


@pytest.fixture(scope="session")
def pictures() -> dict[str, Image.Image]:
    """The sample pictures by name."""
    from gradcam_widget.models import sample_images

    return sample_images()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Warnings are errors; a proxy that is not there refuses every request."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=Path(__file__).parents[1],
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder
