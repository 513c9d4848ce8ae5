"""What updates cost a vehicle."""
