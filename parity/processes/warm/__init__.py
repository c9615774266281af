"""Warm children: processes that have imported their framework and have run nothing.

`parity warm` starts a server, which keeps one for each framework. A command takes one over a
private socket, uses it once and ends it; without a server it starts its own, as ever.
"""
