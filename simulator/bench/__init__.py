"""Benchmarks: each number beside a raw floor or a peer of the same run, against the bar that was set for it."""
