"""Updates: what an install, a delta and a cut cost."""
