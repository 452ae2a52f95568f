# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The log of a bench: what was asked of which role, when, for how long, and how it ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

KEPT: Final = 5000
"""Steps; the oldest are forgotten first."""
WORDS: Final = 120
"""Of a step's arguments, in characters."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a role, or several alike, one after the other, as waiting for something makes them.

    Attributes:
        at_s: since the log began, of the first.
        role, call: what was asked of whom.
        took_s: together.
        times: how many.
        error: how the last one failed; empty if it did not.
    """

    at_s: float
    role: str
    call: str
    took_s: float
    times: int
    error: str

    def __str__(self) -> str:
        times = f" x{self.times}" if self.times > 1 else ""
        error = f"  FAILED: {self.error}" if self.error else ""
        return f"{self.at_s:9.3f} s  {self.role}.{self.call}{times}  took {self.took_s:.3f} s{error}"


class Steps:
    """The log; one thread writes it."""

    def __init__(self) -> None:
        self._began_ns = time.monotonic_ns()
        self._steps: deque[Step] = deque(maxlen=KEPT)
        self._count = 0

    @property
    def count(self) -> int:
        """How many there were so far, forgotten ones included."""
        return self._count

    def since(self, count: int) -> list[Step]:
        """Return the steps behind a `count` of before, as far as they are kept."""
        wanted = min(self._count - count, len(self._steps))
        return list(self._steps)[len(self._steps) - wanted :]

    @contextmanager
    def step(self, role: str, call: str) -> Iterator[None]:
        """Note what happens inside."""
        begin_ns = time.monotonic_ns()
        error = ""
        try:
            yield
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}".splitlines()[0]
            raise
        finally:
            end_ns = time.monotonic_ns()
            self._note(Step((begin_ns - self._began_ns) / 1e9, role, call, (end_ns - begin_ns) / 1e9, 1, error))

    def _note(self, step: Step) -> None:
        last = self._steps[-1] if self._steps else None
        if last is not None and not last.error and (last.role, last.call) == (step.role, step.call):
            merged = replace(last, took_s=last.took_s + step.took_s, times=last.times + 1, error=step.error)
            self._steps[-1] = merged
            return
        self._count += 1
        self._steps.append(step)


class _Recorded:
    """Stands in front of a role."""

    def __init__(self, name: str, inner: object, steps: Steps) -> None:
        self._name = name
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name.startswith("_") or not callable(value):
            return value
        return self._noted(name, value)

    def _noted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def noted(*arguments: Any, **named: Any) -> Any:
            said = [_short(one) for one in arguments] + [f"{key}={_short(one)}" for key, one in named.items()]
            with self._steps.step(self._name, f"{name}({', '.join(said)})"[:WORDS]):
                return call(*arguments, **named)

        return noted


def recorded(name: str, role: T, steps: Steps) -> T:
    """Return a role whose every call is a step of the log."""
    return cast("T", _Recorded(name, role, steps)) if role is not None else role


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 16 else f"{len(value)} bytes"
    return str(value)
