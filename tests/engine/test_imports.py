"""Imports point one way, and importing costs nothing that is not needed: read off the source, and run."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import gradcam_widget

PACKAGE = Path(gradcam_widget.__file__).parent

ARROWS: dict[str, tuple[str, ...]] = {
    # What each file may import of the package. Every arrow points to a row above it, so there is no way round.
    # A new file needs a row: put it where it belongs, with as few arrows as it needs.
    "__init__": (),  # the public names come lazily
    # leaves: they know nothing of the package
    "cache": (),
    "channel_names": (),
    "concepts": (),
    "diagnosis": (),
    "files": (),
    "graph": (),
    "settings": (),
    "harmless": ("settings",),
    "heatmap": (),
    "inputs": (),
    "layers": ("graph",),
    "lessons": (),
    "localise": (),
    "painting": (),
    "render": (),
    "spelling": (),
    "smoothing": (),
    "targets": (),
    # the engine's parts
    "occlusion": ("targets",),
    "arguments": ("layers", "targets"),
    "methods": ("heatmap", "spelling", "targets"),
    "ablation": ("layers", "targets"),
    "cell_output": (),
    "captions": (),
    "lettering": (),
    "plate": ("captions", "localise", "methods", "render", "targets"),
    "paper": ("cell_output", "lettering", "localise"),
    "figures": ("captions", "localise", "paper", "plate", "render"),
    "explanation": ("figures", "heatmap", "layers", "methods", "smoothing", "targets"),
    "presets": ("heatmap",),
    "trace": ("graph", "harmless", "layers", "targets"),
    "tracer": ("harmless", "layers", "targets", "trace"),
    "slopes": ("targets", "trace"),
    "backward": ("targets", "trace"),
    "route": ("trace",),
    "folding": ("trace",),
    "memory": (),
    "recorder": (),
    "forward_graphs": ("cache", "memory", "recorder", "trace", "tracer"),
    "cuda_graphs": ("backward", "cache", "memory", "recorder", "route", "trace"),
    "gradients": ("backward", "cache", "cuda_graphs", "route", "slopes", "targets", "trace"),
    "reading": ("harmless", "layers", "trace", "tracer"),
    "tail": ("harmless", "targets", "trace", "tracer"),
    "guided": ("backward", "graph", "targets", "trace"),
    "perturbation": ("folding", "harmless", "heatmap", "tail", "targets", "trace"),
    "evidence": ("backward", "gradients", "guided", "perturbation", "tail", "targets", "trace"),
    "maps": (
        "cache",
        "diagnosis",
        "evidence",
        "gradients",
        "harmless",
        "methods",
        "perturbation",
        "smoothing",
        "tail",
        "targets",
        "trace",
        "tracer",
    ),
    "last_picture": ("trace",),
    "traces": ("cache", "forward_graphs", "last_picture", "trace", "tracer"),
    "watch": ("harmless", "last_picture", "settings", "trace"),
    "resolution": ("arguments", "layers", "targets", "trace"),
    "engine": (
        "ablation",
        "arguments",
        "cache",
        "cuda_graphs",
        "evidence",
        "explanation",
        "forward_graphs",
        "gradients",
        "harmless",
        "inputs",
        "last_picture",
        "layers",
        "maps",
        "memory",
        "methods",
        "occlusion",
        "painting",
        "perturbation",
        "reading",
        "recorder",
        "resolution",
        "smoothing",
        "tail",
        "targets",
        "trace",
        "tracer",
        "traces",
        "watch",
    ),
    "comparison": ("engine", "explanation", "methods", "targets"),
    "channel_words": ("channel_names", "explanation", "targets"),
    "survey": ("arguments", "engine", "perturbation", "reading"),
    "strongest": ("channel_names", "layers", "reading"),
    "dissection": ("channel_names", "reading"),
    "neurons": ("cache", "channel_names", "dissection", "engine", "perturbation", "strongest", "survey"),
    # what lasts
    "written_targets": ("targets",),
    "archive": (
        "__init__",
        "comparison",
        "engine",
        "explanation",
        "layers",
        "methods",
        "perturbation",
        "smoothing",
        "targets",
        "written_targets",
    ),
    # is the map true?
    "evaluate.drawing": ("cell_output", "render"),
    "evaluate.given": ("arguments", "engine"),
    "evaluate.question": (
        "engine",
        "evaluate.given",
        "explanation",
        "heatmap",
        "layers",
        "methods",
        "perturbation",
        "targets",
    ),
    "evaluate.similarity": ("evaluate.given",),
    "evaluate.stages": (),
    "evaluate.curves": (
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "heatmap",
        "perturbation",
    ),
    "evaluate.sanity": (
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "evaluate.similarity",
        "evaluate.stages",
        "explanation",
        "occlusion",
        "perturbation",
        "targets",
    ),
    "evaluate.confidence": (
        "arguments",
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "methods",
        "perturbation",
        "targets",
    ),
    "evaluate.agreement": (
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "occlusion",
        "perturbation",
    ),
    "evaluate.location": (
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "localise",
        "perturbation",
    ),
    "evaluate.mosaics": (
        "arguments",
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "localise",
        "methods",
        "perturbation",
        "targets",
    ),
    "evaluate.noise": ("engine", "evaluate.drawing", "evaluate.given", "evaluate.question", "perturbation"),
    "evaluate.road": (
        "arguments",
        "engine",
        "evaluate.drawing",
        "evaluate.given",
        "evaluate.question",
        "perturbation",
    ),
    "evaluate.checks": (
        "engine",
        "evaluate.agreement",
        "evaluate.confidence",
        "evaluate.curves",
        "evaluate.mosaics",
        "evaluate.noise",
        "evaluate.question",
        "evaluate.road",
        "evaluate.sanity",
        "methods",
        "occlusion",
        "perturbation",
        "targets",
    ),
    "evaluate.__init__": (
        "evaluate.agreement",
        "evaluate.confidence",
        "evaluate.curves",
        "evaluate.location",
        "evaluate.mosaics",
        "evaluate.noise",
        "evaluate.road",
        "evaluate.sanity",
        "evaluate.similarity",
    ),
    # models and pictures
    "models": ("inputs",),
    # the widget: its parts know neither the engine nor torch; the explorer knows both sides
    "widget.__init__": (),
    "widget.wire": (),
    "widget.state": ("spelling",),
    "widget.parts": (),
    "widget.view.__init__": (),
    "widget.cures": (),
    "widget.kept": (),
    "widget.scene": ("widget.cures", "widget.wire"),
    "widget.notice": ("widget.cures", "widget.wire"),
    "widget.strip": ("widget.wire",),
    "widget.canvas": ("widget.kept", "widget.notice", "widget.strip", "widget.view.__init__", "widget.wire"),
    "widget.choices": ("captions", "widget.wire"),
    "widget.controls": ("widget.choices", "widget.parts", "widget.state"),
    "widget.panels": ("widget.parts", "widget.state"),
    "widget.latest": (),
    "widget.pad_canvas": ("painting",),
    "widget.pad_controls": ("painting", "widget.parts"),
    "widget.pad_view": ("widget.view.__init__",),
    "widget.occluding": ("painting", "widget.pad_view", "widget.wire"),
    "widget.numbers": (),
    "widget.ahead": (
        "engine",
        "methods",
        "widget.canvas",
        "widget.latest",
        "widget.scene",
        "widget.state",
        "widget.wire",
    ),
    "widget.paint": (
        "painting",
        "widget.latest",
        "widget.occluding",
        "widget.pad_canvas",
        "widget.pad_controls",
        "widget.pad_view",
        "widget.parts",
        "widget.state",
        "widget.wire",
    ),
    "widget.labels": ("targets", "widget.state"),
    "widget.pictures": ("widget.wire",),
    "widget.pixels": ("render",),
    "widget.class_channels": ("widget.wire",),
    "widget.picks": ("widget.pixels", "widget.state"),
    "widget.selection": (
        "ablation",
        "comparison",
        "engine",
        "layers",
        "localise",
        "perturbation",
        "widget.canvas",
        "widget.picks",
        "widget.scene",
        "widget.wire",
    ),
    "widget.words": (
        "diagnosis",
        "engine",
        "explanation",
        "layers",
        "methods",
        "targets",
        "widget.choices",
        "widget.notice",
    ),
    "widget.answers": (
        "comparison",
        "engine",
        "explanation",
        "layers",
        "methods",
        "perturbation",
        "targets",
        "watch",
        "widget.choices",
        "widget.cures",
        "widget.notice",
        "widget.numbers",
        "widget.scene",
        "widget.selection",
        "widget.state",
        "widget.words",
    ),
    "widget.many_passes": (
        "engine",
        "perturbation",
        "widget.answers",
        "widget.canvas",
        "widget.notice",
        "widget.state",
        "widget.words",
    ),
    "widget.layer_maps": (
        "engine",
        "layers",
        "methods",
        "widget.answers",
        "widget.canvas",
        "widget.state",
        "widget.strip",
    ),
    "widget.easel": (
        "explanation",
        "heatmap",
        "occlusion",
        "painting",
        "perturbation",
        "render",
        "watch",
        "widget.occluding",
        "widget.paint",
        "widget.pictures",
        "widget.words",
    ),
    "widget.handout_page": (
        "__init__",
        "explanation",
        "widget.cures",
        "widget.scene",
        "widget.strip",
        "widget.view.__init__",
        "widget.wire",
    ),
    "widget.recipe": ("archive", "explanation", "methods", "targets", "written_targets"),
    "widget.plates": ("captions", "comparison", "engine", "explanation", "plate", "widget.canvas", "widget.scene"),
    "widget.export": (
        "archive",
        "figures",
        "files",
        "inputs",
        "plate",
        "widget.plates",
        "widget.recipe",
        "widget.wire",
    ),
    "widget.naming": (
        "channel_names",
        "channel_words",
        "engine",
        "neurons",
        "widget.canvas",
        "widget.panels",
        "widget.state",
        "widget.wire",
    ),
    "widget.changes": (
        "engine",
        "harmless",
        "neurons",
        "watch",
        "widget.canvas",
        "widget.cures",
        "widget.notice",
    ),
    "widget.handout": (
        "arguments",
        "engine",
        "explanation",
        "files",
        "layers",
        "methods",
        "perturbation",
        "resolution",
        "targets",
        "widget.canvas",
        "widget.handout_page",
        "widget.naming",
        "widget.scene",
        "widget.state",
        "widget.words",
    ),
    "widget.checks": (
        "evaluate.checks",
        "evaluate.question",
        "explanation",
        "perturbation",
        "targets",
        "watch",
        "widget.state",
        "widget.view.__init__",
        "widget.words",
    ),
    "widget.explorer": (
        "channel_names",
        "comparison",
        "engine",
        "explanation",
        "layers",
        "localise",
        "methods",
        "render",
        "widget.ahead",
        "widget.answers",
        "widget.canvas",
        "widget.changes",
        "widget.choices",
        "widget.class_channels",
        "widget.controls",
        "widget.export",
        "widget.handout",
        "widget.labels",
        "widget.layer_maps",
        "widget.many_passes",
        "widget.naming",
        "widget.notice",
        "widget.panels",
        "widget.parts",
        "widget.picks",
        "widget.pictures",
        "widget.pixels",
        "widget.scene",
        "widget.selection",
        "widget.state",
        "widget.words",
    ),
    "lesson_command": ("lessons",),
    "export_command": ("models", "widget.explorer"),
    "cli": ("__init__", "export_command", "lesson_command", "lessons"),
}

WIDGETS = ("anywidget", "ipycanvas", "IPython", "ipywidgets", "traitlets")
HEAVY = ("matplotlib.pyplot", "torchvision")
SHELL = (
    "widget.canvas",
    "widget.choices",
    "widget.controls",
    "widget.kept",
    "widget.latest",
    "widget.occluding",
    "widget.pad_canvas",
    "widget.pad_controls",
    "widget.pad_view",
    "widget.paint",
    "widget.parts",
    "widget.scene",
    "widget.notice",
    "widget.strip",
    "widget.state",
    "widget.view.__init__",
    "widget.wire",
)
ENGINE_SIDE = tuple(name for name in ARROWS if not name.startswith(("widget", "__init__", "cli")))


@cache
def sources() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> set[str]:
    """The modules that a file imports anywhere, except for annotations only (``if TYPE_CHECKING``)."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here, so that they can be read"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(tree: ast.Module) -> set[str]:
    """Those of the package's own files among them."""
    files = sources()
    found = set()
    for name in imported(tree):
        top, _, rest = name.partition(".")
        if top == "gradcam_widget" and rest in files:
            found.add(rest)
        elif top == "gradcam_widget" and rest != "widget" and f"{rest}.__init__" in files:
            found.add(f"{rest}.__init__")
        elif name == "gradcam_widget.__version__":
            found.add("__init__")
    return found


def test_every_file_has_its_place_in_the_table():
    assert sorted(sources()) == sorted(ARROWS)


def test_the_table_has_no_way_round():
    rows = list(ARROWS)
    for name, arrows in ARROWS.items():
        assert all(rows.index(other) < rows.index(name) for other in arrows), name


@pytest.mark.parametrize("name", ARROWS)
def test_imports_follow_the_table(name):
    assert inside(sources()[name]) <= set(ARROWS[name])


@pytest.mark.parametrize("name", ARROWS)
def test_the_table_allows_no_more_than_is_used(name):
    assert set(ARROWS[name]) <= inside(sources()[name])


def test_the_check_sees_imports_inside_functions_and_from_the_package():
    tree = ast.parse(
        "if TYPE_CHECKING:\n    from gradcam_widget import engine\n"
        "def f():\n    from gradcam_widget import render\n    import gradcam_widget.layers\n"
        "from gradcam_widget.targets import ClassLogit"
    )
    assert inside(tree) == {"render", "layers", "targets"}


@pytest.mark.parametrize("name", ENGINE_SIDE)
def test_the_engine_side_names_no_widget_library(name):
    found = {module.partition(".")[0] for module in imported(sources()[name])}
    assert found.isdisjoint(WIDGETS)
    assert not any(module.startswith("matplotlib.pyplot") for module in imported(sources()[name]))


@pytest.mark.parametrize("name", SHELL)
def test_the_widgets_parts_name_neither_torch_nor_the_engine(name):
    found = {module.partition(".")[0] for module in imported(sources()[name])}
    assert found.isdisjoint({"torch", "torchvision"})


# -- run, each in a process of its own ----------

_LOADED = """
import importlib, json, os, sys
first, statements = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in first:
    importlib.import_module(name)
results = {}
for statement in statements:
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            exec(statement, {})
            answer = sorted(sys.modules)
        except BaseException as error:
            answer = ["failed: " + repr(error)]
        with os.fdopen(write, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        results[statement] = json.load(pipe)
    os.wait()
print(json.dumps(results))
"""


def loaded(statements: list[str], after: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """The modules in ``sys.modules`` after each statement, each in a process that has seen no other one.

    The processes are forked from one that has imported `after`, so that torch is read once, not once for each.
    """
    command = [sys.executable, "-c", _LOADED, json.dumps(after), json.dumps(statements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {statement: set(modules) for statement, modules in json.loads(done.stdout).items()}
    assert [name for modules in found.values() for name in modules if name.startswith("failed")] == []
    return found


def home(name: str) -> str:
    return f"gradcam_widget.{name}".removesuffix(".__init__")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the check forks; this system cannot")


@needs_fork
def test_the_engine_side_loads_no_widget_library_no_pyplot_no_torchvision():
    statements = [f"import {home(name)}" for name in ENGINE_SIDE]
    for statement, modules in loaded(statements, after=("torch",)).items():
        assert modules.isdisjoint((*WIDGETS, *HEAVY)), statement
        assert not any(name.startswith("gradcam_widget.widget") for name in modules), statement


@needs_fork
def test_the_widgets_parts_load_neither_torch_nor_the_engine():
    statements = [f"import {home(name)}" for name in SHELL]
    for statement, modules in loaded(statements).items():
        assert modules.isdisjoint(("torch", "gradcam_widget.engine", *HEAVY)), statement


@needs_fork
def test_the_package_alone_loads_nothing():
    statement = "import gradcam_widget, gradcam_widget.widget; dir(gradcam_widget); gradcam_widget.__version__"
    modules = loaded([statement, "import gradcam_widget.cli"])[statement]
    assert modules.isdisjoint(("torch", "numpy", "PIL", "matplotlib", *WIDGETS, *HEAVY))
    assert {name for name in modules if name.startswith("gradcam_widget")} == {
        "gradcam_widget",
        "gradcam_widget.widget",
    }


@needs_fork
def test_the_explorer_loads_neither_torchvision_nor_pyplot():
    statement = "from gradcam_widget import GradCAMWidget"
    modules = loaded([statement], after=("torch",))[statement]
    assert modules.isdisjoint(HEAVY)
    assert {"ipywidgets", "gradcam_widget.engine"} <= modules


@needs_fork
def test_colours_do_not_load_pyplot():
    statement = "from gradcam_widget.render import table; table('viridis')"
    modules = loaded([statement])[statement]
    assert modules.isdisjoint(("matplotlib.pyplot", "torch"))
    assert "matplotlib" in modules


def test_the_public_names_are_there():
    for name in gradcam_widget.__all__:
        assert getattr(gradcam_widget, name) is not None
    assert set(gradcam_widget.__all__) <= set(dir(gradcam_widget))
    with pytest.raises(AttributeError, match="has no attribute 'GradCam'"):
        gradcam_widget.GradCam  # noqa: B018 # the look-up is what is tested
