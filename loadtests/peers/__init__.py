"""Other people's gateways, to measure ours beside: each from its PyPI release, in an environment of its own.

`python -m loadtests.peers install [NAME ...]` makes the environments under `.cache/peers`. The one place of their versions
is `requirements/NAME.txt`. Nothing of theirs is imported here: they are other processes, spoken to over HTTP.
"""
