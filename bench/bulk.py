"""Many bytes and many files to a peer and back: one big file, and 20,000 files of 4 KB. All of it is in memory (/dev/shm), and
is copied whole each time. The factor of a row is by how much ours is faster.
"""

import argparse
import contextlib
import os
import pathlib
import shutil

import harness
import line
import tables
from ways import DAEMON, FLOOR, OURS, SSH, SSH_GCM, Place, Task, rounds

WAYS = {"loopback": [OURS, FLOOR, SSH_GCM, SSH], "20 ms": [OURS, DAEMON, SSH_GCM, SSH]}
FILES, SIZE = 20_000, 4096  # of the tree: count, and bytes of each
MEGABYTE = 1_000_000  # bytes


def big_file(path, megabytes):
    """Bytes that do not repeat, as rsync sends them without compression."""
    path.mkdir()
    block = os.urandom(MEGABYTE)
    with open(path / "file", "wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def tree(path):
    """The small files, 100 in each directory."""
    for number in range(FILES):
        directory = path / f"{number // 100:03}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number:05}").write_bytes(os.urandom(SIZE))
    return path


def compare(place, title, unit, source, direction, rate, repeat, bars):
    """Samples of all ways as rates; `rate` makes one of milliseconds."""
    dest = source.with_name(f"dest-{place.started}")

    def empty():
        shutil.rmtree(dest, ignore_errors=True)
        dest.mkdir()

    table = tables.Comparison(f"{title}, {direction}, {place.name}", unit)
    ways = place.ways(Task(f"{source}/", f"{dest}/", direction), WAYS[place.name])
    table.rows(rounds(ways, repeat, before=empty, convert=rate), bars)
    shutil.rmtree(dest)
    return table


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--megabytes", type=int, default=2000, help="of the big file")
    arguments.add_argument("--far", type=int, default=500, help="megabytes of the big file on the line of 20 ms")
    arguments.add_argument("--only", choices=["big", "small", "far"])
    options = arguments.parse_args()
    finished = []

    def measure(kind, *words):
        if options.only in (None, kind):
            finished.append(compare(*words))

    def megabytes(count):
        return lambda time: count * 1000 / time

    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        memory = stack.enter_context(harness.memory())
        far = stack.enter_context(line.Line(sandbox)) if line.possible() else None
        place = stack.enter_context(Place(sandbox))
        bars = {SSH_GCM: (">=", 1.10), SSH: (">=", 1.6)}
        big = big_file(memory / "big", options.megabytes)
        for direction in ("push", "pull"):
            title = f"A file of {options.megabytes:,} MB"
            measure("big", place, title, "MB/s", big, direction, megabytes(options.megabytes), options.rounds, bars)
        shutil.rmtree(big)

        bars = {SSH_GCM: (">=", 1.2), SSH: (">=", 1.2)}
        small = tree(memory / "small")
        for direction in ("push", "pull"):
            title = f"{FILES:,} files of 4 KB"
            measure("small", place, title, "files/s", small, direction, lambda time: FILES * 1000 / time, options.rounds, bars)
        shutil.rmtree(small)

        if far:
            bars = {SSH_GCM: (">=", 1.0), SSH: (">=", 1.0)}
            big = big_file(memory / "big", options.far)
            place = stack.enter_context(Place(sandbox, far))
            title = f"A file of {options.far:,} MB"
            measure("far", place, title, "MB/s", big, "pull", megabytes(options.far), options.rounds, bars)
            measure("far", place, title, "MB/s", big, "push", megabytes(options.far), options.rounds, {})
        else:
            finished[-1].skip("the same on a line of 20 ms", "needs root")
    tables.finish(*finished)


if __name__ == "__main__":
    main()
