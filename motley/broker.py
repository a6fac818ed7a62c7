"""One budget for several components on a host, without a daemon.

A directory holds one lease file for each component, which keeps it locked (`flock`) while it lives. The
kernel drops the lock of a process that ends in whatever way, SIGKILL too, so its share is free at once and
nothing has to time out. Every decision is taken under one more lock, that of the directory. The
directory must be on a local file system and writable for all components.

What is granted never adds up to more than the budget. A component that joins when all is taken gets
its share as the others renew their leases and give back. Where components name different budgets, the
smallest counts.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import os
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from motley.errors import InputError, MotleyError
from motley.governor.base import Grant
from motley.governor.sharing import max_min_shares

_LOCK = "budget.lock"
_SUFFIX = ".lease"
_MOST_LEASE_BYTES = 4096
_LOCK_WAIT_S = 2.0
_LOCK_POLL_S = 0.005


@dataclass(frozen=True)
class Budget:
    """What all components of a host may use together."""

    memory_bytes: int
    cores: float | None = None
    """None: CPU is not shared out."""

    def __post_init__(self) -> None:
        if self.memory_bytes <= 0:
            raise InputError(f"a budget of {self.memory_bytes} bytes of memory; give more than 0")
        if self.cores is not None and not 0 < self.cores < math.inf:
            raise InputError(f"a budget of {self.cores} cores; give more than 0, or leave it out")


@dataclass(frozen=True)
class Wish:
    """What one component could use. None: as much as it may get."""

    memory_bytes: int | None = None
    cores: float | None = None
    weight: float = 1.0
    """Its part against the others' where not all wishes can be met."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise InputError(f"a weight of {self.weight}; give a number above 0")
        for wished in (self.memory_bytes, self.cores):
            if wished is not None and not 0 <= wished < math.inf:
                raise InputError(f"a wish for {wished}; give 0 or more, or None for as much as possible")


@dataclass(frozen=True)
class Holder:
    """What a lease file says."""

    order: int
    """Who came first has the smallest."""
    budget: Budget
    wish: Wish
    held_bytes: int
    """Granted, or still in use from before the grant shrank; the larger one."""


def granted(name: str, holders: Mapping[str, Holder]) -> Grant:
    """What the holder `name` may use now. Pure.

    Memory: its max-min fair share, as far as the others do not hold it still. CPU time can be taken
    back at any moment, so there the fair share counts at once. The grant of the one that came first
    is always final, so that not everyone waits for everyone.
    """
    wishes = {each: _or_inf(holder.wish.memory_bytes) for each, holder in holders.items()}
    weights = {each: holder.wish.weight for each, holder in holders.items()}
    budget_bytes = min(holder.budget.memory_bytes for holder in holders.values())
    fair_bytes = int(max_min_shares(budget_bytes, wishes, weights)[name])
    free_bytes = budget_bytes - sum(holder.held_bytes for each, holder in holders.items() if each != name)
    is_first = holders[name].order == min(holder.order for holder in holders.values())
    memory_bytes = max(0, min(fair_bytes, free_bytes))
    return Grant(memory_bytes, _fair_cores(name, holders, weights), is_first or memory_bytes == fair_bytes)


def _fair_cores(name: str, holders: Mapping[str, Holder], weights: Mapping[str, float]) -> float | None:
    cores = [holder.budget.cores for holder in holders.values() if holder.budget.cores is not None]
    if not cores:
        return None
    wishes = {each: _or_inf(holder.wish.cores) for each, holder in holders.items()}
    return max_min_shares(min(cores), wishes, weights)[name]


def _or_inf(wished: float | None) -> float:
    return math.inf if wished is None else wished


class Broker:
    """The budget that lies in `directory`, which is made where it is missing."""

    def __init__(self, directory: Path, budget: Budget) -> None:
        self.directory, self.budget = directory, budget

    def join(self, wish: Wish = Wish(), used_bytes: int = 0) -> Lease:
        """Take part. Raises InputError for a directory that can't be used, MotleyError when it is locked for long."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            return Lease(self, wish, used_bytes)
        except OSError as error:
            raise InputError(f"can't share a budget in {self.directory}: {error.strerror}") from error

    def holders(self) -> dict[str, Holder]:
        """Those that live, by the name of their lease."""
        with self._decision():
            return self._living()

    @contextmanager
    def _decision(self) -> Iterator[None]:
        """Alone with the directory. A process that was stopped in here must not stop the others for ever."""
        lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            until = time.monotonic() + _LOCK_WAIT_S
            while not _try_lock(lock):
                if time.monotonic() > until:
                    raise MotleyError(f"{self.directory / _LOCK} has been locked for {_LOCK_WAIT_S:g} s; who holds it?")
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(lock)

    def _living(self) -> dict[str, Holder]:
        """Also removes what the dead have left. Other files, and what can't be read, are left alone."""
        living = {}
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            try:
                lease = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                if _try_lock(lease):
                    path.unlink(missing_ok=True)
                elif holder := _read(lease):
                    living[path.name] = holder
            finally:
                os.close(lease)
        return living


class Lease:
    """A component's part of a budget: renew it often, and before more memory is taken. Use it in a `with` block."""

    def __init__(self, broker: Broker, wish: Wish, used_bytes: int) -> None:
        self.name = f"{uuid.uuid4().hex}{_SUFFIX}"
        self._broker = broker
        with broker._decision():
            others = broker._living()
            self._order = 1 + max((holder.order for holder in others.values()), default=0)
            self._path = broker.directory / self.name
            self._file = self._open()
            _close_in_children(self)
            self.grant = self._decide(others, wish, used_bytes)

    def renew(self, wish: Wish = Wish(), used_bytes: int = 0) -> Grant:
        """Say what is wished for and what is in use; returns what may be used from now on.

        When the directory stays locked the last grant holds on.
        """
        try:
            with self._broker._decision():
                self._keep_visible()
                others = {name: each for name, each in self._broker._living().items() if name != self.name}
                self.grant = self._decide(others, wish, used_bytes)
        except (MotleyError, OSError):
            pass
        return self.grant

    def release(self) -> None:
        """Give the share back; does nothing the second time."""
        if self._file < 0:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def _keep_visible(self) -> None:
        """Something may have cleaned the directory; a lease without a file would be counted by nobody."""
        if self._file >= 0 and not os.fstat(self._file).st_nlink:
            os.close(self._file)
            self._file = self._open()

    def _decide(self, others: Mapping[str, Holder], wish: Wish, used_bytes: int) -> Grant:
        mine = Holder(self._order, self._broker.budget, wish, 0)
        grant = granted(self.name, {**others, self.name: mine})
        held_bytes = max(grant.memory_bytes, used_bytes)
        text = json.dumps(asdict(Holder(self._order, self._broker.budget, wish, held_bytes))).encode()
        os.pwrite(self._file, text.ljust(_MOST_LEASE_BYTES), 0)
        return grant


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(file: int) -> Holder | None:
    """What a lease says; None for anything else."""
    try:
        fields: dict[str, Any] = json.loads(os.pread(file, _MOST_LEASE_BYTES, 0))
        return Holder(
            int(fields["order"]), Budget(**fields["budget"]), Wish(**fields["wish"]), int(fields["held_bytes"])
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, InputError):
        return None


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()
_at_fork = itertools.count()


def _close_in_children(lease: Lease) -> None:
    """A forked child would hold the lock on after its parent's death."""
    if next(_at_fork) == 0:
        os.register_at_fork(after_in_child=_close_all)
    _leases.add(lease)


def _close_all() -> None:
    for lease in _leases:
        if lease._file >= 0:
            os.close(lease._file)
            lease._file = -1
    _leases.clear()
