"""`outrider ota delta`: what the vehicles that have one release need of the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.repository.alone import alone
from ota.repository.deltas import Delta, delta_files, make_deltas
from ota.repository.desk import Desk
from ota.repository.files import Watch


def bytes_to_read(repo: Path, old: str, new: str) -> int:
    """Of the files that deltas will be made for: the whole of a progress bar."""
    images = _founded(repo).images
    return sum(entry.size for _, entry in delta_files(images.manifest(old), images.manifest(new)))


def make(repo: Path, old: str, new: str, watch: Watch) -> tuple[Delta, ...]:
    """Makes the deltas from one published release to another, and stores them beside the files. Raises RepositoryFault,
    DiskError, EnvironmentFault while another desk writes."""
    desk = _founded(repo)
    with alone(repo):
        return make_deltas(RealDisk(repo), desk.images, old, new, watch)


def deltas_table(deltas: Sequence[Delta]) -> Table:
    table = Table("file", "full", "delta", "", caption="Vehicles ask for them by themselves, and check what they make.")
    for its in deltas:
        full = f"{its.full_bytes:,}"
        if its.delta_bytes is None:
            table.add_row(escape(shown(its.file)), full, "", "the full file is as good")
        else:
            share = f"{100 * its.delta_bytes / its.full_bytes:.1f} %"
            table.add_row(escape(shown(its.file)), full, f"{its.delta_bytes:,}", share)
    return table


def _founded(repo: Path) -> Desk:
    desk = Desk(RealDisk(repo), SystemClock())
    if not desk.images.is_founded:
        raise RepositoryFault(
            f"There is no repository in {shown(repo)}. Make one: outrider ota init, or name another with --repo."
        )
    return desk
