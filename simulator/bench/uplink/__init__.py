"""What the uplinks make of a narrow line: the real ones, to the real receiver."""
