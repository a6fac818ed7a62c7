"""`motley monitor`: watch a machine against its limits, and a governed load on it."""
