"""Small matrices on one thread.

numpy's BLAS starts a thread for each core for matrices of a few hundred rows. They wait for each
other without sleeping: on a host that is busy, with an emulated phone say, that costs many times
what the threads gain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import threadpoolctl

_P = ParamSpec("_P")
_R = TypeVar("_R")


def on_one_thread(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make ``function`` run with a BLAS of one thread."""

    @functools.wraps(function)
    def limited(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _libraries().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    """Those that are loaded; looked for once, when numpy is there."""
    return threadpoolctl.ThreadpoolController()
