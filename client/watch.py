"""When to give up on the ClientApp's process: it hangs past its deadline, or its reply would come too late."""

from __future__ import annotations

from pathlib import Path

from motley.device import REPLY_GRACE_S
from motley.kernel_files import text_or_nothing
from motley.limits import PROC

LOOK_S = 1.0
IDLE_S = 5.0
"""Past its deadline, a process whose main thread has not run for so long hangs."""
LAST_S = 3.0
"""So long before nobody would take the reply any more, an error has to leave the device."""


def age_s(created_s: float, now_s: float) -> float:
    """How old a message is by the clocks of two machines, of which one may be wrong by any time."""
    return min(max(0.0, now_s - created_s), REPLY_GRACE_S / 2)


class Watch:
    """Watches one process.

    started_s: when its message was sent, by a clock that never jumps. ttl_s: how long that message lives; its
    deadline is `REPLY_GRACE_S` earlier. Work that goes on past the deadline may still be of use, so only a
    process that does nothing is ended at once.
    """

    def __init__(self, pid: int, ttl_s: float, started_s: float, proc: Path = PROC) -> None:
        self._task = proc / str(pid) / "task" / str(pid)
        self._started_s = started_s
        self._deadline_s = ttl_s - REPLY_GRACE_S if ttl_s > REPLY_GRACE_S else ttl_s / 2
        self._last_s = max(self._deadline_s, ttl_s - LAST_S)
        self._idle_since_s = started_s
        self._progress: tuple[str, ...] = ()

    def look(self, now_s: float) -> str:
        """Why to end the process, as the reason of an error reply; empty to let it go on."""
        progress = self._look_progress()
        if progress != self._progress or not progress:
            self._progress, self._idle_since_s = progress, now_s
        elapsed_s = now_s - self._started_s
        past_s, idle_s = elapsed_s - self._deadline_s, now_s - self._idle_since_s
        if past_s >= 0 and idle_s >= IDLE_S:
            return (
                f"crashed: ClientApp hung: it did nothing for {idle_s:.0f} s, {past_s:.0f} s past its deadline of "
                f"{self._deadline_s:.0f} s, and was killed"
            )
        if elapsed_s >= self._last_s:
            return (
                f"late: ClientApp was still at work {past_s:.0f} s past its deadline of {self._deadline_s:.0f} s, "
                "and was killed"
            )
        return ""

    def _look_progress(self) -> tuple[str, ...]:
        """CPU ticks and context switches of the main thread; empty where the kernel does not say.

        Other threads, such as one that samples memory, run on in a process that hangs.
        """
        ticks = text_or_nothing(self._task / "stat").rpartition(")")[2].split()[11:13]
        status = text_or_nothing(self._task / "status").splitlines()
        return (*ticks, *(line for line in status if "ctxt_switches" in line))
