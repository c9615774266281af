"""Networks that are composed at random, so that nothing can be tuned to a list of them.

`networks.py` writes them as PyTorch source, one operation a line; `faults.py` puts one fault of a
random kind at a random place, `rewritings.py` writes one operation otherwise.
"""
