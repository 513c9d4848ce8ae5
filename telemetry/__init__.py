"""What happened and how it reaches the cloud: records, capture, privacy, spool, uplink, links."""

__distribution__ = "outrider"
