"""The table of methods by checks has every method, and its words follow its numbers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gradcam_widget.methods import METHODS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("page", ROOT / "benchmarks" / "evaluation_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raw(page, methods, **columns):
    """Numbers as they are measured: every method the same, but for the columns given."""
    rows = {name: {column: [0.2, 0.4] for column in page.COLUMNS} for name in (*methods, page.CENTRE)}
    for name, row in rows.items():
        row.update({column: values[name] for column, values in columns.items() if name in values})
    return {
        "values": rows,
        "random": [[0.5, 0.1], [0.5, 0.1]],
        "predicted": {"chelsea": ["tabby", 0.4], "coffee": ["espresso", 0.9]},
        "layer": "layer4",
        "channels": 8,
        "cells": [7, 7],
        "stages": 8,
        "classes": 6,
        "tries": 4,
        "mosaics": 3,
        "steps": 10,
    }


def test_every_method_has_a_row_on_the_page():
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [method for method in METHODS if f"| {method} |" not in text] == []


def test_the_words_follow_the_numbers(page):
    numbers = raw(
        page,
        ("GradCAM", "AblationCAM", "EigenCAM"),
        drop={"GradCAM": [0.1, 0.1]},
        classes={"EigenCAM": [1.0, 1.0]},
        weights={"AblationCAM": [0.1, 0.11]},
    )
    text = page.reading(numbers)
    assert "GradCAM is among the best in 9 of 10 columns" not in text
    assert "GradCAM and AblationCAM are among the best in 9 of 10 columns" in text
    assert "better at weights (0.11, GradCAM 0.30); worse at drop (0.30, GradCAM 0.10)" in text
    assert "and EigenCAM, which give much the same map (0.7 or more) for any class" in text
    assert "no method's map stays alike (0.4 or more)" in text
    assert "**0.10**" in page.table_of(numbers)


def test_what_prints_as_nearly_equal_counts_as_equal(page):
    assert page.near(0.104, 0.114)
    assert not page.near(0.10, 0.12)
    assert page.near(float("inf"), float("inf"))
    assert not page.near(0.1, float("inf"))
    assert page.digits(float("inf")) == "∞"
    assert page.digits(-0.5) == "−0.50"
    assert page.listed([]) == "none"
