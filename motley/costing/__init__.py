"""`motley plan`: what a fleet's run is expected to cost, and what else it could. Trains nothing."""
