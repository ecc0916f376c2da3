"""Real architectures, explained without configuration; ``make zoo`` runs the largest ones too."""

from __future__ import annotations

import gc

import pytest

from .zoo import Entry, check, entries


# other people's models may warn; what is tested is that they can be explained
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", list(entries(everything=False)), ids=str)
def test_every_architecture_is_explained_without_configuration(entry: Entry):
    row = check(entry)
    assert row.layers > 10
    gc.collect()
