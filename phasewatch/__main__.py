"""`python -m phasewatch`: the same as the command `phasewatch`."""

from phasewatch.cli import app

app()
