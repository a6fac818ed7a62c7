"""Where everything comes in: devices that join, their profiles and their replies."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Message

from motley.clock import ProportionalWait
from motley.errors import RunFailed
from motley.knowledge import Knowledge
from server.ledger import Ledger
from server.mailbox import Mailbox, Sent
from server.replies import read_profile
from server.roster import Roster
from server.rounds import Run

_PROFILE_PATIENCE_S = 2.0
_BETWEEN_LOOKS = ProportionalWait(share=0.1, first_s=1.0, last_s=600.0)


class Desk:
    """Reads the mailbox and gives each reply to whom it concerns."""

    def __init__(self, run: Run, mailbox: Mailbox, roster: Roster, knowledge: Knowledge, ledger: Ledger) -> None:
        self._run = run
        self._mailbox = mailbox
        self._roster = roster
        self._knowledge = knowledge
        self._ledger = ledger

    def receive(self, kind: str = "") -> list[Message]:
        """Read what is there; return replies of this round and `kind`."""
        wanted = []
        for sent, reply in self._mailbox.receive():
            if sent.kind == "query":
                self._take_profile(sent, reply)
            elif sent.kind == "train":
                self._ledger.take(sent, reply)
            if sent.kind == kind and sent.round == self._ledger.round.number:
                wanted.append(reply)
        return wanted

    def await_profiles(self, timeout_s: float) -> None:
        """Wait until a device is there and all that are have said what they are.

        Raises RunFailed when none has after `timeout_s`.
        """
        clock, roster = self._run.clock, self._roster
        self._look(timeout_s)
        since_s = clock.now_s()
        while not roster.profiles and clock.now_s() < since_s + timeout_s:
            self._rest_and_look(since_s, timeout_s)
        if not roster.profiles:
            raise RunFailed(f"no device answered within {timeout_s:g} s; see the devices' logs")
        silent = roster.unanswered()
        rest = f"; {silent} more have not answered yet" if silent else ""
        self._run.say(f"{len(roster.profiles)} devices are ready{rest}")

    def await_device(self, timeout_s: float, is_fed: Callable[[], bool]) -> None:
        """Wait until a device can be asked, or the round `is_fed` by orders that are under way.

        Without either, a round would end before it has begun. Raises RunFailed after `timeout_s`.
        """
        self._look(_PROFILE_PATIENCE_S)
        self._await(
            lambda: bool(self._roster.idle(self._knowledge).any()) or is_fed(),
            timeout_s,
            "every device is busy, away or resting; waiting for one",
            f"no device could be asked for {timeout_s:g} s; see the devices' logs",
        )

    def await_turn(self, timeout_s: float, ask: Callable[[], bool]) -> None:
        """Wait until the policy takes one of the devices that are free, which `ask` tries and tells.

        Those who rest are asked for their profiles anew. Raises RunFailed after `timeout_s`.
        """
        policy = self._run.fleet.training.policy

        def is_taken() -> bool:
            taken = ask()
            if not taken:
                self._roster.ask_idle_again(self._knowledge)
            return taken

        self._await(
            is_taken,
            timeout_s,
            f"policy '{policy}' lets every free device rest; waiting",
            f"policy '{policy}' took none of the free devices for {timeout_s:g} s; see the round's decisions",
        )

    def _await(self, is_there: Callable[[], bool], timeout_s: float, saying: str, failing: str) -> None:
        clock, said = self._run.clock, False
        since_s = clock.now_s()
        while not is_there():
            if clock.now_s() >= since_s + timeout_s:
                raise RunFailed(failing)
            if not said:
                self._run.say(f"  {saying}")
                said = True
            self._rest_and_look(since_s, _PROFILE_PATIENCE_S)

    def _rest_and_look(self, since_s: float, patience_s: float) -> None:
        clock = self._run.clock
        clock.sleep(_BETWEEN_LOOKS.next_s(clock.now_s() - since_s))
        self._look(patience_s)

    def _look(self, patience_s: float) -> None:
        """See who is there; give those who are new, or have rested, `patience_s` to say what they are."""
        clock = self._run.clock
        self._roster.ask_resting_again(self._knowledge)
        for device in self._run.resources.due_for_profile():
            self._roster.ask_anew(device)
        self._roster.look()
        self._run.resources.see(self._roster.present())
        until_s = clock.now_s() + patience_s
        self.receive()
        while self._roster.unanswered() and (left_s := until_s - clock.now_s()) > 0:
            self._mailbox.rest(left_s)
            self.receive()
        self._knowledge.look(self._roster.connected(self._knowledge))

    def _take_profile(self, sent: Sent, reply: Message) -> None:
        profile = read_profile(reply)
        if isinstance(profile, str):
            self._run.say(f"a device could not give its profile: {profile}")
            self._roster.ask_again(sent.node_id)
            return
        owed = self._roster.take(sent.node_id, profile, self._knowledge.join(profile))
        self._run.history.see_device(self._run.run_id, profile, self._run.clock.now_s())
        self._run.resources.join(profile)
        self._ledger.note_gone(owed, profile)
