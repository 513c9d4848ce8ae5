"""The verbs of `outrider ota`, by subject. ota/cli.py puts them together."""
