"""The report of a run, and of two side by side: facts from history, then words, tables and charts of them.

All of it is pure but `find`, `fetch` and `command`.
"""
