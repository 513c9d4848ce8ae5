"""Signal batches as bytes: the inside of a SignalBlock record (docs/formats/columns.md).

Its modules need numpy and are imported by their own names: `block` writes and reads, `cutting` makes blocks that fit.
"""
