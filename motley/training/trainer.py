"""Local training for a simulation: jobs cut into chunks, chunks done by one process or by several.

Choose `processes=1` for small runs and tests, as many as there are cores for long ones. The results are
the same to the bit: how jobs are cut depends on the jobs alone, and each chunk is computed on one
thread from its own data, so who does it does not show.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Pipe
from typing import Any

import torch

from motley.errors import RunFailed
from motley.training.channel import Channel, new_blocks
from motley.training.chunks import Method, chunks, train_chunk
from motley.training.jobs import Job, Trained

_START_UP_POLL_S = 0.05


class Trainer:
    """Trains jobs of one task. Close it, or use it in a `with`, so that its processes end.

    Of `processes`, one is this process itself. The others start here and stay until `close`; one that
    dies makes `train` raise RunFailed, and the next `train` starts another in its place.
    """

    def __init__(self, task: str, processes: int = 1, method: Method = "grouped") -> None:
        if processes < 1:
            raise ValueError(f"processes is {processes}; must be at least 1")
        self._task, self._method = task, method
        self._workers: list[_Worker] = []
        self._wanted = processes - 1
        self._start_workers()

    def train(self, jobs: Sequence[Job]) -> list[Trained]:
        """What each job came to, in the order of the jobs.

        Raises RunFailed when a process died, and what the training raised otherwise.
        """
        self._start_workers()
        cut = chunks(self._task, jobs)
        round_ = _Round(jobs, cut)
        helping = self._workers[: max(0, len(cut) - 1)]
        threads = [threading.Thread(target=round_.work_through, args=(worker,)) for worker in helping]
        try:
            for thread in threads:
                thread.start()
            with _one_thread():
                while (chunk := round_.next_chunk()) is not None:
                    round_.keep(chunk, train_chunk(self._task, [jobs[index] for index in chunk], self._method))
        except BaseException as error:
            round_.failure = error
            self._end_processes()
            raise
        finally:
            for thread in threads:
                thread.join()
            if round_.failure is not None:
                self.close()
        if round_.failure is not None:
            raise round_.failure
        return [round_.results[index] for index in range(len(jobs))]

    def wait(self) -> None:
        """Wait until all processes have come up; only a measurement has to. Raises RunFailed when one died."""
        for worker in self._workers:
            while not worker.ready():
                pass

    def close(self) -> None:
        """End the processes; a later `train` starts new ones."""
        self._end_processes()
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _end_processes(self) -> None:
        for worker in self._workers:
            worker.end()

    def _start_workers(self) -> None:
        while len(self._workers) < self._wanted:
            self._workers.append(_Worker(self._task, self._method, len(self._workers) + 2))

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Round:
    """The chunks of one `train`, the dearest first, and what came of them."""

    def __init__(self, jobs: Sequence[Job], cut: Sequence[Sequence[int]]) -> None:
        self._jobs = jobs
        self._left: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
        for chunk in sorted(cut, key=lambda chunk: -sum(jobs[index].work for index in chunk)):
            self._left.put(chunk)
        self.results: dict[int, Trained] = {}
        self.failure: BaseException | None = None

    def next_chunk(self) -> Sequence[int] | None:
        if self.failure is not None:
            return None
        try:
            return self._left.get_nowait()
        except queue.Empty:
            return None

    def keep(self, chunk: Sequence[int], trained: Sequence[Trained]) -> None:
        self.results.update(zip(chunk, trained, strict=True))

    def work_through(self, worker: _Worker) -> None:
        """Let `worker` do chunks until none is left; runs in a thread of its own."""
        try:
            while not worker.ready():
                if self._left.empty() or self.failure is not None:
                    return
            while (chunk := self.next_chunk()) is not None:
                self.keep(chunk, worker.train([self._jobs[index] for index in chunk]))
        except Exception as error:
            self.failure = self.failure or error


class _Worker:
    """A process that trains what it is sent; it ends when this one does."""

    def __init__(self, task: str, method: Method, number: int) -> None:
        self._name = f"training process {number}"
        pipe, theirs = Pipe()
        blocks = new_blocks()
        self._channel = Channel(pipe, blocks, is_parent=True, keeps=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        inherited = theirs.fileno(), blocks
        command = [sys.executable, "-m", "motley.training.worker", *map(str, inherited), task, method]
        self._process = subprocess.Popen(command, env=environment, pass_fds=inherited, stdin=subprocess.DEVNULL)
        theirs.close()
        os.close(blocks)
        self._ready = False

    def ready(self) -> bool:
        """Whether it has come up; waits for it for a moment. Raises RunFailed when it died instead."""
        if not self._ready and self._channel.pipe.poll(_START_UP_POLL_S):
            self._receive()
            self._ready = True
        return self._ready

    def train(self, jobs: Sequence[Job]) -> list[Trained]:
        try:
            self._channel.send(jobs)
        except OSError:
            raise self._death() from None
        trained: list[Trained] = self._receive()
        return trained

    def _receive(self) -> Any:
        try:
            answer = self._channel.receive()
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _death(self) -> RunFailed:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = "; out of memory? try fewer processes" if code == -9 else ""
        return RunFailed(f"{self._name} died with {how}{hint}")

    def end(self) -> None:
        """Whoever waits for its answer learns of its death."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._channel.pipe.close()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
