"""What capturing from a busy bus costs a vehicle's computer, and how soon a trigger is on flash."""
