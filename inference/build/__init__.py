"""Builds the model packages this project ships. Needs the extra `build`; nothing here runs on a vehicle."""
