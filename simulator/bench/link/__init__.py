"""Throughput and latency of the way to the cloud: the receiver's endpoint, its floor, a peer, and each link's client."""
