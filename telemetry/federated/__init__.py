"""What vehicles learn, on its way into one model: plans, updates, their sums."""
