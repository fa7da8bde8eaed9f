"""Syncs to a peer that find nothing to do: what a connection of the director's own saves, on loopback and on a line of 20 ms."""

import argparse
import contextlib

import harness
import line
import tables
from ways import DAEMON, FLOOR, MASTER, OURS, SSH, SSH_GCM, Place, Task, rounds

WAYS = {
    "loopback": [OURS, FLOOR, MASTER, SSH_GCM, SSH],
    "20 ms": [OURS, MASTER, DAEMON, SSH_GCM, SSH],
}
MANY = 50  # syncs
BARS = {
    "loopback": {FLOOR: ("<=", 1.15), SSH: ("<=", 0.40)},
    "20 ms": {MASTER: ("<=", 1.0), SSH: ("<=", 0.40)},
}


def ends(place):
    """Ten small files, and where their copy is."""
    return f"{place.sandbox.dir}/source/", f"{place.sandbox.dir}/copy-{place.sshd.address}/"


def syncs(place, count, repeat):
    """`repeat` samples of `count` syncs of 10 files, milliseconds per sync."""
    task = Task(*ends(place), count=count)
    return rounds(place.ways(task, WAYS[place.name]), repeat, convert=lambda time: time / count)


def cold(place, repeat):
    """`repeat` samples of a job of 50 such syncs, connecting included: seconds."""
    task = Task(*ends(place), count=MANY)
    samples = {name: [] for name in (OURS, MASTER, SSH)}
    for _ in range(repeat):
        for name, numbers in samples.items():
            with contextlib.closing(place.way(task, name)) as way:
                numbers.append(way.connecting + way.time() / 1000)
    return samples


def itself(far):
    """What the line does without any of this."""
    table = tables.Facts("The line of 20 ms by itself")
    trips, rates = far.measure()
    table.row("round trip of a byte by TCP", trips, "ms")
    table.row("one TCP connection", rates, "MB/s")
    return table


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--syncs", type=int, default=10, help="in each sample")
    arguments.add_argument("--jobs", type=int, default=1, help=f"samples of {MANY} syncs from cold")
    options = arguments.parse_args()
    finished = []
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        far = stack.enter_context(line.Line(sandbox)) if line.possible() else None
        if far:
            finished.append(itself(far))
        for way in [None, far] if far else [None]:
            place = stack.enter_context(Place(sandbox, way))
            table = tables.Comparison(f"No-op sync of 10 files, {place.name}, per sync", "ms")
            table.rows(syncs(place, options.syncs, options.rounds), BARS[place.name])
            many = tables.Comparison(f"{MANY} of them in a job, {place.name}, connecting included", "s")
            many.rows(cold(place, options.jobs), {})
            finished += [table, many]
        if not far:
            finished[-1].skip("the same on a line of 20 ms", "needs root")
    tables.finish(*finished)


main()
