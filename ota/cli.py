"""`outrider ota`: the signing desk's command line. Its verbs lie in ota/desk/, by subject."""

from __future__ import annotations

import typer

from ota.desk.checking import verify
from ota.desk.deltas import delta
from ota.desk.keys import init, keygen
from ota.desk.publishing import export, publish
from ota.desk.releases import add, inspect
from ota.desk.signing import rotate, sign

app = typer.Typer(
    help="The signing desk: keys, releases, and what each vehicle is to have.",
    no_args_is_help=True,
    add_completion=False,
)

for verb in (keygen, init, add, sign, publish, rotate, inspect, verify, delta, export):
    app.command()(verb)
