"""When old dialogs are deleted and the others counted."""

import asyncio
from typing import Any, cast

import pytest

from serving.dialogs import upkeep


@pytest.mark.parametrize(("seconds", "rest"), [(0, 60), (60, 600)])
def test_a_slow_count_is_made_less_often_and_the_next_one_comes_in_minutes(
    monkeypatch: pytest.MonkeyPatch, seconds: float, rest: float
) -> None:
    clock = 0.0
    rests: list[float] = []
    counted: list[int] = []

    class Store:
        async def is_ready(self) -> bool:
            return True

        async def count(self) -> int:
            nonlocal clock
            clock += seconds
            return 7

    async def sleep(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("serving.dialogs.upkeep.time.monotonic", lambda: clock)
    monkeypatch.setattr("serving.dialogs.upkeep.asyncio.sleep", sleep)
    monkeypatch.setattr(upkeep, "set_dialogs", counted.append)
    monkeypatch.setattr(upkeep, "in_time", lambda work, _: work)
    store = cast("Any", Store())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(upkeep.keep_up(store, store, None))
    assert (rests, counted) == ([rest] * 3, [7] * 3)
