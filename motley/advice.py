"""`motley accounts advice`: where to ask for academic access to clouds, and what makes their hours cost less.

What a programme gives and to whom changes often; its own page says it. So there are no figures here.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True)
class Programme:
    """A provider's programme for research or teaching."""

    provider: str
    name: str
    for_whom: str
    page: str


@dataclass(frozen=True)
class Lever:
    """Something that lowers what a run costs, and how one turns it on."""

    name: str
    why: str
    how: str


PROGRAMMES = (
    Programme(
        "aws",
        "AWS Cloud Credit for Research",
        "researchers at accredited research institutions, in all countries; asks for an institutional address",
        "https://aws.amazon.com/research-credits/",
    ),
    Programme(
        "aws",
        "AWS Educate, AWS Academy",
        "learners and institutions that teach; apply at the provider's page",
        "https://aws.amazon.com/education/",
    ),
    Programme(
        "gcp",
        "Google Cloud research credits",
        "faculty, postdoctoral researchers and PhD students at accredited or non-profit research institutions of "
        "the countries that its page lists; asks for a proposal",
        "https://edu.google.com/programs/credits/research",
    ),
    Programme(
        "gcp",
        "Google Cloud teaching and learning credits",
        "verified faculty and students of courses at accredited institutions; for courses, not for research",
        "https://edu.google.com/programs/faqs/teaching-and-learning-credits/",
    ),
    Programme(
        "lambda_cloud", "Lambda research grant", "researchers; apply at the provider's page", "https://lambda.ai/"
    ),
)

LEVERS = (
    Lever(
        "spot machines, with checkpoint and resume",
        "cheaper, as they may be taken away at short notice; a round that is cut short is done again, no more",
        "`spot: true` where machines are asked for; every round is a checkpoint",
    ),
    Lever(
        "scheduled shutdown",
        "a machine that waits costs as much as one that works",
        "`shutdown: {idle: 15m, nightly: '22:00-06:00'}` of an account",
    ),
    Lever(
        "right-sizing",
        "memory and cores that a task does not use are paid for all the same",
        "the predictor gives time and peak memory of the work; the cheapest kind that has as much is taken",
    ),
    Lever(
        "sharding of work",
        "several small machines may cost less than one large machine, and may be easier to get",
        "each device trains its own share of the data; scaling adds and removes devices as there is work",
    ),
    Lever(
        "most budget left first",
        "credits that run out at the month's turn are used evenly",
        "several accounts in the accounts file; every launch says which one it took, and why",
    ),
)


def show_advice() -> None:
    """Print both lists."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print("Programmes for academic access")
    for each in PROGRAMMES:
        console.print(f"\n  {each.name} ({each.provider})\n    for {each.for_whom}\n    {each.page}")
    console.print("\nWhat you are granted goes into the accounts file, with its evidence and its last day.")
    console.print("\nWhat lowers the cost")
    for lever in LEVERS:
        console.print(f"\n  {lever.name}: {lever.why}\n    {lever.how}")
