"""The composition root in the cloud: pairing authority, endpoint, ingest, store."""

__distribution__ = "outrider"
