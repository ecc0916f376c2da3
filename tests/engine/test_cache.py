"""The budget holds, the least recently used goes first, and what depends on something goes with it."""

from __future__ import annotations

import random

import pytest

from gradcam_widget.cache import Cache, parse_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (0, 0),
        (1234, 1234),
        (10**30, 10**30),
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("3 kB", 3000),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 gb", 1_500_000_000),
        (" 2 TB ", 2_000_000_000_000),
        ("1e3MB", 10**9),
    ],
)
def test_amounts(text, amount):
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    "text", ["", "GB", "two GB", "2 GiB", "-1", "-1GB", "nan", "inf", "infGB", "2XB", "1,5GB"]
)
def test_amounts_that_are_none(text):
    with pytest.raises(ValueError, match="memory_budget: expected bytes or text such as '2GB' or '500MB'; got"):
        parse_bytes(text)


@pytest.mark.parametrize("amount", [None, 2e9, True, [1], b"2GB"])
def test_kinds_that_are_no_amount(amount):
    with pytest.raises(TypeError, match=r"memory_budget: expected bytes or text such as '2GB'; got \w+"):
        parse_bytes(amount)


def test_negative_ints():
    with pytest.raises(ValueError, match=r"memory_budget: .* got -5"):
        parse_bytes(-5)


def test_what_was_put_is_got():
    cache = Cache(100)
    cache.put("a", 1, 10)
    assert (cache.get("a"), cache.get("b"), cache.peek("a"), cache.bytes, len(cache)) == (1, None, 1, 10, 1)
    cache.put("a", 2, 30)
    assert (cache.get("a"), cache.bytes, len(cache)) == (2, 30, 1)
    assert cache.sizes() == {"a": 30}
    cache.clear()
    assert (cache.get("a"), cache.bytes, len(cache)) == (None, 0, 0)


def test_the_least_recently_used_goes_first():
    cache = Cache(30)
    for key in "abc":
        cache.put(key, key, 10)
    cache.get("a")
    cache.peek("b")
    cache.put("d", "d", 10)
    assert cache.keys() == ["c", "a", "d"]


def test_several_go_for_a_large_one_and_a_too_large_one_is_not_kept():
    cache = Cache(30)
    for key in "abc":
        cache.put(key, key, 10)
    cache.put("d", "d", 25)
    assert cache.keys() == ["d"]
    cache.put("e", "e", 31)
    assert cache.keys() == ["d"]
    cache.put("d", "d", 31)  # the old value would be wrong
    assert cache.keys() == []


def test_dependants_go_with_what_they_depend_on():
    cache = Cache(100)
    cache.put(1, "picture", 10)
    cache.put((1, "x"), "gradient", 10, parent=1)
    cache.put((1, "y"), "map", 10, parent=1)
    cache.put(2, "picture", 10)
    cache.drop(1)
    assert cache.keys() == [2]
    assert cache.bytes == 10
    cache.put((1, "x"), "gradient", 10, parent=1)
    assert cache.keys() == [2]
    cache.drop("unknown")


def test_using_a_dependant_uses_what_it_depends_on():
    cache = Cache(40)
    cache.put(1, "picture", 10)
    cache.put((1, "x"), "gradient", 10, parent=1)
    cache.put(2, "picture", 10)
    cache.get((1, "x"))
    cache.put(3, "picture", 20)
    assert set(cache.keys()) == {1, (1, "x"), 3}


def test_what_fits_only_without_its_parent_is_not_kept():
    cache = Cache(100)
    cache.put(1, "picture", 80)
    cache.put((1, "x"), "gradient", 50, parent=1)
    assert cache.sizes() == {1: 80}
    cache.put((1, "y"), "map", 20, parent=1)
    assert cache.sizes() == {1: 80, (1, "y"): 20}
    cache.put((1, "z"), "map", 20, parent=1)  # its siblings make room
    assert cache.sizes() == {1: 80, (1, "z"): 20}


@pytest.mark.parametrize("seed", range(5))
def test_the_books_are_right_after_anything(seed):
    rng, cache = random.Random(seed), Cache(100)
    for number in range(500):
        parent = rng.choice([None, *[key for key in cache.keys() if isinstance(key, int)]])  # noqa: SIM118 # a method
        key = number if parent is None else (parent, rng.randrange(4))
        cache.put(key, number, rng.randrange(60), parent=parent)
        cache.get(rng.choice([*cache.keys(), None]))
        if rng.random() < 0.1:
            cache.drop(rng.choice([*cache.keys(), None]))
        sizes = cache.sizes()
        assert cache.bytes == sum(sizes.values()) <= 100
        assert len(cache) == len(sizes)
        assert all(isinstance(key, int) or key[0] in sizes for key in sizes)
