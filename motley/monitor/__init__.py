"""Sample what this device uses."""

from motley.monitor.peak import PeakMemory
from motley.monitor.reading import Missing, Source
from motley.monitor.resource_monitor import ResourceMonitor
from motley.monitor.sources import Roots

__all__ = ["Missing", "PeakMemory", "ResourceMonitor", "Roots", "Source"]
