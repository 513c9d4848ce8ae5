"""What durability costs: the spool beside raw files and databases, in the same folder and run."""
