"""Many bytes and many files to a peer and back: one big file, and 20,000 files of 4 KB. All of it is in memory (/dev/shm), and
is copied whole each time. The factor of a row is by how much ours is faster.
"""

import argparse
import contextlib
import os
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


def big(place, memory, megabytes, repeat, directions):
    """Tables of one big file in each of the directions, for which the bars are given."""
    source = big_file(memory / f"big-{place.sshd.address}", megabytes)
    words = f"A file of {megabytes:,} MB", "MB/s", source

    def rate(time):
        return megabytes * 1000 / time

    found = [compare(place, *words, direction, rate, repeat, bars) for direction, bars in directions.items()]
    shutil.rmtree(source)
    return found


def small(place, memory, repeat):
    """Tables of the many small files."""
    words = f"{FILES:,} files of 4 KB", "files/s", tree(memory / "small")
    bars = {SSH_GCM: (">=", 1.2), SSH: (">=", 1.2)}
    return [compare(place, *words, way, lambda time: FILES * 1000 / time, repeat, bars) for way in ("push", "pull")]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--megabytes", type=int, default=2000, help="of the big file")
    arguments.add_argument("--far", type=int, default=500, help="megabytes of the big file on the line of 20 ms")
    arguments.add_argument("--far-rounds", type=int, default=3)
    arguments.add_argument("--only", choices=["big", "small", "far"])
    options = arguments.parse_args()
    wanted = [options.only] if options.only else ["big", "small", "far"]
    found = []
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        memory = stack.enter_context(harness.memory())
        far = stack.enter_context(line.Line(sandbox)) if line.possible() else None
        place = stack.enter_context(Place(sandbox))
        if "big" in wanted:
            bars = {SSH_GCM: (">=", 1.10), SSH: (">=", 1.6)}
            found += big(place, memory, options.megabytes, options.rounds, {"push": bars, "pull": bars})
        if "small" in wanted:
            found += small(place, memory, options.rounds)
        if "far" in wanted and far:
            place = stack.enter_context(Place(sandbox, far))
            bars = {SSH_GCM: (">=", 1.0), SSH: (">=", 1.0)}
            found += big(place, memory, options.far, options.far_rounds, {"pull": bars, "push": {}})
        elif "far" in wanted:
            found.append(tables.Comparison("A big file, 20 ms", "MB/s"))
            found[-1].skip("all", "needs root")
    tables.finish(*found)


if __name__ == "__main__":
    main()
