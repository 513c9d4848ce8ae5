"""Many rollouts over a simulated fleet, each decided by the receiver's own rules."""
