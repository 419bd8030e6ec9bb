from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from equipment.errors import LinkLost
from equipment.opcua.streams import BoundedStream
from equipment.profiles.driver import Overflow, TagSample

pytestmark = pytest.mark.anyio

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def sample(number: int) -> TagSample:
    return TagSample("t", number, START + timedelta(seconds=number))


async def take(stream: BoundedStream[TagSample], count: int) -> list[TagSample | Overflow]:
    taken: list[TagSample | Overflow] = []
    async with aclosing(stream.items()) as items:
        async for item in items:
            taken.append(item)
            if len(taken) == count:
                break
    return taken


async def test_a_slow_reader_is_told_what_was_dropped_in_the_place_where_it_is_missing() -> None:
    stream = BoundedStream[TagSample](limit=4)
    for number in range(10):
        stream.offer(sample(number))
    gap = Overflow(6, sample(4).source_time, sample(9).source_time)
    assert await take(stream, 5) == [*map(sample, range(4)), gap]
    stream.offer(sample(10))
    assert await take(stream, 1) == [sample(10)]


async def test_a_gap_stands_before_what_came_after_it() -> None:
    stream = BoundedStream[TagSample](limit=4)
    for number in range(6):
        stream.offer(sample(number))
    assert await take(stream, 2) == [sample(0), sample(1)]
    stream.offer(sample(6))
    gap = Overflow(2, sample(4).source_time, sample(5).source_time)
    assert await take(stream, 4) == [sample(2), sample(3), gap, sample(6)]


async def test_what_was_received_is_read_before_the_loss_of_the_link() -> None:
    stream = BoundedStream[TagSample]()
    stream.offer(sample(1))
    stream.fail(LinkLost("cut"))
    async with aclosing(stream.items()) as items:
        assert await anext(items) == sample(1)
        with pytest.raises(LinkLost, match="cut"):
            await anext(items)


async def test_a_subscription_without_even_a_keep_alive_ends_as_lost() -> None:
    stream = BoundedStream[TagSample](silent_after_s=0.05)
    with pytest.raises(LinkLost, match="silent"):
        await take(stream, 1)
