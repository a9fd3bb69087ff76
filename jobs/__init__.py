"""What a person or a scheduler starts: one file per job, the command line on top, the same for Python in api.py."""
