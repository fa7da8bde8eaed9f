"""Syncs to a peer that find nothing to do: what a connection of the director's own saves, on loopback and on a line of 20 ms."""

import argparse
import contextlib

import harness
import line
import tables
from ways import FLOOR, MASTER, OURS, SSH, SSH_GCM, Place, Task, rounds

WAYS = [OURS, FLOOR, MASTER, SSH_GCM, SSH]
BARS = {
    "loopback": {FLOOR: ("<=", 1.15), SSH: ("<=", 0.40)},
    "20 ms": {MASTER: ("<=", 1.0), SSH: ("<=", 0.40)},
}


def syncs(place, count, repeat):
    """`repeat` samples of `count` syncs of 10 files, milliseconds per sync."""
    task = Task(f"{place.sandbox.dir}/source/", f"{place.sandbox.dir}/copy-{place.name}/".replace(" ", ""), count=count)
    return rounds(place.ways(task, WAYS), repeat, convert=lambda time: time / count)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--syncs", type=int, default=10, help="in each sample")
    options = arguments.parse_args()
    finished = []
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        far = stack.enter_context(line.Line(sandbox)) if line.possible() else None
        for way in [None, far] if far else [None]:
            place = stack.enter_context(Place(sandbox, way))
            table = tables.Comparison(f"No-op sync of 10 files, {place.name}, per sync", "ms")
            table.rows(syncs(place, options.syncs, options.rounds), BARS[place.name])
            finished.append(table)
        if not far:
            finished[-1].skip("the same on a line of 20 ms", "needs root")
    tables.finish(*finished)


main()
