"""Campaigns: what the fleet's owner wants to be told, when, and at what cost; signed, bounded, refused with numbers."""
