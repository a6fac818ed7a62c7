"""What Motley adapts in Flower at run time, and the check that Flower still looks as expected.

Flower is neither forked nor vendored. Where its source differs from what was measured, nothing is
touched, a warning says so, and stock behaviour remains. Importing this imports nothing of Flower.

    supernode   waits of a device's SuperNode, and what it tells its executor
    link        the SuperLink's database statements
    inbox       what the SuperLink knows by heart about the inboxes of nodes
    http        the layers of the SuperLink's HTTP API between a request and its handler
    transfer    the back-off of object pulls
    lean        what a device never needs of Flower
"""

from motley.flower.environment import ENVIRONMENT, quiet_environment
from motley.flower.http import adapt_http
from motley.flower.lean import postpone_database
from motley.flower.link import adapt_superlink
from motley.flower.supernode import adapt_supernode
from motley.flower.transfer import adapt_object_pulls

__all__ = [
    "ENVIRONMENT",
    "adapt_http",
    "adapt_object_pulls",
    "adapt_superlink",
    "adapt_supernode",
    "postpone_database",
    "quiet_environment",
]
