"""What the fleet owner signed and how it gets into a slot. Its first tenant is the next release."""

__distribution__ = "outrider"
