"""The way to the cloud, how fast and how soon: the receiver's endpoint, its floor, a peer, and each link's client."""
