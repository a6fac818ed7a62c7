"""A process of a `Trainer`: `python -m motley.training.worker PIPE BLOCKS TASK METHOD`.

It reads chunks of jobs from a `Channel` over two inherited descriptors and writes what they came to, or
the exception that they raised, until the other end closes. Ctrl-C is left to the parent.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any, cast

import torch

from motley.training.channel import Channel
from motley.training.chunks import Method, train_chunk


def main(pipe: int, blocks: int, task: str, method: Method) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    channel = Channel(Connection(pipe), blocks, is_parent=False, keeps=False)
    answer: Any = "ready"
    while True:
        try:
            _send(channel, answer)
            jobs = channel.receive()
        except (EOFError, OSError):
            return
        try:
            answer = train_chunk(task, jobs, method)
        except Exception as error:
            answer = error


def _send(channel: Channel, answer: Any) -> None:
    try:
        channel.send(answer)
    except OSError:
        raise
    except Exception:  # an exception that can't travel goes as its text
        channel.send(RuntimeError(f"{type(answer).__name__}: {answer}"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], cast(Method, sys.argv[4]))
