"""CPU work of detectors off the event loop: few threads, a bounded queue.

For work that releases the interpreter lock (ONNX Runtime, Pillow). Waiting counts against a guard's budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from guardproxy.errors import DetectorError

P = ParamSpec("P")
R = TypeVar("R")


class Offload:
    """A bounded pool of threads.

    Args:
        workers: Threads; they are started when they are needed.
        max_waiting: Calls in work or waiting; more are refused, so that a flood fails soon and not late.
    """

    def __init__(self, workers: int = 1, max_waiting: int = 4096) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="detectors")
        self._max_waiting = max_waiting
        self._waiting = 0

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in a thread.

        Raises:
            DetectorError: `overloaded`: the queue is full.
        """
        if self._waiting >= self._max_waiting:
            raise DetectorError("too many texts or pictures wait to be looked at", "overloaded")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stop the threads; what waits is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)
