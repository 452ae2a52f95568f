# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A spool whose file system is unmounted under the running writer, and comes back. A program, for a mount namespace.

    unshare --user --map-root-user --mount python -m tests.agent.spool.unmounted FOLDER

An open file outlives its mount: without looking, a writer would go on into a place that nobody finds any more.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.spool import writer as writers
from agent.spool.condition import WriterState
from agent.spool.orders import Policy
from agent.spool.writer import SpoolWriter, check
from tests.agent.spool.gateway import CITY, EUI, SIGNER, Platform, frame, heard, wait_for

LIMIT_S = 60.0


def main(folder: Path) -> None:
    """Take the mount away, bring it back."""
    writers.RETRY_S = (0.01,)  # type: ignore[assignment]  # shorter than in the field
    card, elsewhere = folder / "card", folder / "elsewhere"
    for place in (card, elsewhere):
        place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(elsewhere)], check=True)
    subprocess.run(["mount", "--bind", str(elsewhere), str(card)], check=True)
    platform = Platform()
    spool = SpoolWriter(
        card / "spool.db",
        journal_folder=folder / "run",
        destinations=(CITY,),
        policy=Policy(10, 3600.0, 16 << 20),
        signer=SIGNER,
        gateway_eui=EUI,
        commit_window_s=0.0,
    )
    with spool:
        assert spool.offer(heard([frame(0)]))
        wait_for(lambda: spool.status().queued_frames == 0, LIMIT_S)
        subprocess.run(["umount", "--lazy", str(card)], check=True)
        assert spool.offer(heard([frame(1)]))
        wait_for(lambda: spool.status().state is WriterState.MISSING, LIMIT_S)
        assert not any(card.iterdir()), "something was written to the bare mount point"
        assert spool.offer(heard([frame(2)]))
        subprocess.run(["mount", "--bind", str(elsewhere), str(card)], check=True)
        wait_for(lambda: spool.status().state is WriterState.OK and spool.status().queued_frames == 0, LIMIT_S)
        assert spool.flush(LIMIT_S)
        with spool.reader() as reader:
            platform.collect(reader)
    assert platform.frames() == [frame(index) for index in range(3)]
    assert check(card / "spool.db") == []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
