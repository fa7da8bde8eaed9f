"""20,000 files of 4 KB to a peer and back on a line of 20 ms: `parallel: 4` against one rsync, and against fpsync, which splits
trees for rsync too (Debian's package fpart; it only pushes). After each sample the copy is compared with the source.
"""

import argparse
import contextlib
import shlex
import shutil
import subprocess

import harness
import line
import tables
from bulk import FILES, tree
from ways import OURS, SSH, Place, Task, rounds

SHARDS = 4
SPLIT, ONE, FPSYNC = f"ours, parallel: {SHARDS}", "ours, one rsync", f"fpsync -n {SHARDS}"


class Fpsync:
    """fpsync over ssh, with as many parts as jobs: each part costs it a connection."""

    def __init__(self, place, task):
        self.sandbox, self.stamper = place.sandbox, place.sandbox.stamper("fpsync")
        self.environment = self.sandbox.environment() | {"RSYNC_RSH": place.sshd.ssh()}
        source, dest = task.ends(f"{harness.USER}@{place.sshd.address}:")
        words = ["fpsync", "-t", str(self.sandbox.dir), "-n", str(SHARDS), "-f", str(FILES // SHARDS), source, dest]
        stamp = self.stamper.directory / "stamp"
        self.script = f"{stamp}; {shlex.join(words)} || exit; {stamp}"

    def time(self):
        subprocess.run(["sh", "-c", self.script], env=self.environment, capture_output=True, check=True)
        begin, end = self.stamper.next(2)
        return harness.milliseconds(end - begin)


def differences(source, dest):
    """What an rsync that reads all would still change."""
    check = ["rsync", "-nac", "--delete", "-i", f"{source}/", f"{dest}/"]
    return subprocess.run(check, capture_output=True, text=True, check=True).stdout


class Checked:
    """A way, the result of which is looked at after each sample."""

    def __init__(self, way, source, dest):
        self.way, self.source, self.dest = way, source, dest

    def time(self):
        time = self.way.time()
        if found := differences(self.source, self.dest):
            raise RuntimeError(f"the copy differs:\n{found[:2000]}")
        return time


def compare(place, source, direction, repeat):
    dest = source.with_name(f"dest-{direction}")
    task, split = (Task(f"{source}/", f"{dest}/", direction, keys=keys) for keys in ("", f"parallel: {SHARDS}"))
    ways = {SPLIT: place.way(split, OURS), ONE: place.way(task, OURS), SSH: place.way(task, SSH)}
    with contextlib.ExitStack() as stack:
        for way in ways.values():
            stack.enter_context(contextlib.closing(way))
        with_fpsync = direction == "push" and shutil.which("fpsync")
        if with_fpsync:
            ways[FPSYNC] = Fpsync(place, task)

        def empty():
            shutil.rmtree(dest, ignore_errors=True)
            dest.mkdir()

        checked = {name: Checked(way, source, dest) for name, way in ways.items()}
        samples = rounds(checked, repeat, before=empty, convert=lambda time: FILES * 1000 / time)
    table = tables.Comparison(f"{FILES:,} files of 4 KB, {direction}, 20 ms", "files/s")
    table.rows(samples, {ONE: (">=", 2.0)})
    if direction == "push" and not with_fpsync:
        table.skip(FPSYNC, "fpart is not installed")
    return table


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    if not line.possible():
        table = tables.Comparison(f"{FILES:,} files of 4 KB, 20 ms", "files/s")
        table.skip("all", "needs root")
        tables.finish(table)
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        memory = stack.enter_context(harness.memory())
        place = stack.enter_context(Place(sandbox, stack.enter_context(line.Line(sandbox))))
        source = tree(memory / "source")
        tables.finish(*[compare(place, source, direction, options.rounds) for direction in ("push", "pull")])


if __name__ == "__main__":
    main()
