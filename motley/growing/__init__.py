"""`motley scale`: grow and shrink a fleet that runs, beside its server and never in it.

The server knows the load, but has neither an engine's socket nor a cloud's credentials; the host of whoever
owns them has. So the loop runs there, asks the server at each look, and leaves with it what was done.
"""
