"""The devices that scaling adds, through the launcher: within budgets, and all of them in its journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from motley.errors import MotleyError
from motley.launcher import Launcher, Order
from motley.launches import LIVE, LaunchRow
from motley.providers.base import State
from motley.scaler import Launched


class LaunchedCrew:
    """A `motley.scaler.Crew` of one run.

    order_of: the order of the n-th device that the run launches, from 1, with a name and a token of its own;
    observed: who has joined. After a restart it goes on counting where the journal ends.
    """

    def __init__(
        self,
        launcher: Launcher,
        run_id: str,
        order_of: Callable[[int], Order],
        observed: Callable[[], Collection[str]],
    ) -> None:
        self._launcher, self._run_id = launcher, run_id
        self._order_of, self._observed = order_of, observed

    def launch(self, count: int) -> Launched:
        """One after the other, until one is refused."""
        names: list[str] = []
        for _ in range(count):
            order = self._order_of(1 + len({row.order_token for row in self._rows()}))
            try:
                self._launcher.launch(order)
            except MotleyError as error:
                return Launched(names, str(error))
            names.append(order.device)
        return Launched(names)

    def terminate(self, names: Sequence[str]) -> None:
        """All of them are tried. Raises the first error."""
        errors: list[MotleyError] = []
        for row in self._rows():
            if row.state in LIVE and row.device in names:
                try:
                    self._launcher.terminate(row.token, "scaling")
                except MotleyError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def requested(self) -> Collection[str]:
        """What the providers list for the run and do not end already."""
        accounts = {row.account for row in self._rows() if row.state in LIVE}
        listed = [each for name in sorted(accounts) for each in self._launcher.providers[name].list(self._run_id)]
        return {each.device for each in listed if each.state in (State.STARTING, State.RUNNING)}

    def observed(self) -> Collection[str]:
        return self._observed()

    def _rows(self) -> list[LaunchRow]:
        return [row for row in self._launcher.launches.rows() if row.run_id == self._run_id]
