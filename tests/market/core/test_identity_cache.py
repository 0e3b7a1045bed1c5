from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

from market.core.identity_cache import IdentityCache


def test_a_value_is_made_once_for_the_same_objects() -> None:
    cache, made = IdentityCache[int](3), count()
    one, two = [1], [2]
    assert [cache.get((one, two), lambda: next(made)) for _ in range(5)] == [0] * 5
    assert cache.get((two, one), lambda: next(made)) == 1


def test_equal_objects_are_told_apart() -> None:
    cache = IdentityCache[str](3)
    one, other = [1.0], [1.0]
    assert cache.get((one,), lambda: "one") == "one"
    assert cache.get((other,), lambda: "other") == "other"


def test_the_oldest_entry_goes_and_an_identity_that_is_used_again_finds_nothing_old() -> None:
    cache = IdentityCache[int](2)
    # Each list may get the address of one that was freed: what is cached keeps its own alive.
    for number in range(1_000):
        fresh = [number]
        assert cache.get((fresh,), lambda found=fresh: found[0]) == number  # type: ignore[misc]
    first, second, third = [1], [2], [3]
    for objects in (first, second, third):
        cache.get((objects,), lambda: 0)
    assert cache.get((third,), lambda: 1) == cache.get((second,), lambda: 1) == 0
    assert cache.get((first,), lambda: 1) == 1


def test_threads_that_fill_the_cache_at_once_get_their_own_values() -> None:
    cache = IdentityCache[int](4)
    lists = [[number] for number in range(8)]

    def read(number: int) -> bool:
        objects = lists[number % 8]
        return cache.get((objects,), lambda: objects[0]) == objects[0]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(4_000)))
