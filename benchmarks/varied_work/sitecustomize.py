"""Read by Python at its start where this directory is on PYTHONPATH: a server's container gets varied work."""

from varied_work import install

install()
