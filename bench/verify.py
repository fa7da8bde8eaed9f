"""A verification of a replica on a peer, against rsync's own ways of finding out: a million small files, and a few large ones, all in memory
(/dev/shm). Both trees are equal, and the same connection is used: the director's own for `verify` and its rsync, ssh for the other.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import threading
import time

import harness
import tables
from bulk import MEGABYTE, big_file
from ways import SSH, Place, Task

QUICK, DEEP, AGAIN = "verify, level: quick", "verify, level: deep", "verify, level: deep, a second time"
IN_A_DIRECTORY = 1000  # files
EPOCH = 1_700_000_000  # seconds, of the files
MOST = 60  # megabytes that either process may take


def small_files(path, count):
    """Files of some hundred bytes, which are holes: their names and times are what counts here."""
    for number in range(count):
        directory = path / f"{number // IN_A_DIRECTORY:05}"
        if number % IN_A_DIRECTORY == 0:
            directory.mkdir(parents=True)
        name = f"{directory}/file-{number:08}"
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
        os.truncate(name, number % 1000)
        os.utime(name, (EPOCH + number, EPOCH + number))
    for directory in [*path.iterdir(), path]:
        os.utime(directory, (EPOCH, EPOCH))
    return path


def large_files(path, megabytes):
    """Four of them, of the same time."""
    path.mkdir()
    for number in range(4):
        big_file(path / f"{number}", megabytes // 4)
        os.utime(path / f"{number}/file", (EPOCH, EPOCH))
    return path


class Verified:
    """A director with a job that does rsync's dry run, and then a verification, over the same connection."""

    def __init__(self, place, name, source, dest, options, level):
        self.stamper = place.sandbox.stamper(name)
        self.state = place.sandbox.dir / "state"
        stamp = f'{{action: command, id: %s, command: "{self.stamper.directory}/stamp", args: ["-"]}}'
        words = ", ".join(f'"{option}"' for option in options)
        actions = [
            stamp % "begin",
            f'{{action: sync, id: copy, source: "{source}/", dest: "{dest}/", opts: [{words}]}}',
            stamp % "between",
            f'{{action: verify, id: proof, of: copy, level: {level}, agent: "{harness.binary()}"}}',
            stamp % "end",
        ]
        lines = "".join(f"        {action},\n" for action in actions)
        job = f"  - {{id: job, type: remote, {place.sshd.keys()}, actions: [\n{lines}    ]}}\n"
        self.program = harness.ours(place.sandbox, job, name=name, top="transport: native\n")
        self.program.ready()

    def close(self):
        self.program.__exit__()

    def forget(self):
        """What was read before is not known any more."""
        for known in list(self.state.rglob("verify")):
            shutil.rmtree(known)

    def times(self):
        """Milliseconds of rsync's dry run, and of the verification."""
        self.program.hup()
        begin, between, end = self.stamper.next(3, seconds=1200, pause=0.1)
        return harness.milliseconds(between - begin), harness.milliseconds(end - between)


class Memory:
    """The greatest resident memory of each process of a verification, megabytes, while it is looked at."""

    def __init__(self):
        self.most = {"the process that verifies": [], "the agent": []}
        self.running = True
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()

    def watch(self):
        program, peaks = harness.binary(), {}
        while self.running:
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, TypeError):
                    if (process / "exe").resolve() != program:
                        continue
                    words = (process / "cmdline").read_bytes().split(b"\0")
                    names = {b"__verify": "the process that verifies", b"agent": "the agent"}
                    if name := names.get(words[1] if len(words) > 1 else b""):
                        status = (process / "status").read_text()
                        peaks[process.name, name] = int(re.search(r"^VmHWM:\s+(\d+)", status, re.M)[1]) * 1024 / MEGABYTE
            time.sleep(0.05)
        for (_, name), peak in peaks.items():
            self.most[name].append(peak)


def hashed(*trees):
    """Milliseconds that b3sum takes for all files of each tree, all trees at once."""
    script = 'find "$1" -type f -print0 | xargs -0 b3sum'
    began = time.monotonic()
    running = [
        subprocess.Popen(["sh", "-c", script, "sh", tree], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for tree in trees
    ]
    for process in running:
        _, said = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"b3sum: {said.decode()}")
    return (time.monotonic() - began) * 1000


def over_ssh(place, source, dest, options):
    return place.way(Task(f"{source}/", f"{dest}/", options=options), SSH)


def small(place, memory, stack, count, repeat):
    """The tables of many small files."""
    source, dest = small_files(memory / "small", count), small_files(memory / "small-there", count)
    dry, words = ("-a", "-n"), f"{count:,} small files, in step, warm"
    quick, deep = (
        stack.enter_context(contextlib.closing(Verified(place, level, source, dest, dry, level)))
        for level in ("quick", "deep")
    )
    ssh = over_ssh(place, source, dest, dry)
    same, other = "rsync -an, the same connection", "rsync -an -e ssh"
    samples = {QUICK: [], same: [], other: []}
    cached = {AGAIN: [], QUICK: samples[QUICK]}
    deep.forget()
    with Memory() as used:
        deep.times()
        for number in range(repeat + 1):
            by_rsync, by_us = quick.times()
            beside, again = ssh.time(), deep.times()[1]
            if number > 0:
                for name, found in ((QUICK, by_us), (same, by_rsync), (other, beside)):
                    samples[name].append(found)
                cached[AGAIN].append(again)
    first = tables.Comparison(words, "ms")
    first.rows(samples, {same: ("<=", 0.5)})
    second = tables.Comparison(f"{words}, whose contents are known", "ms")
    second.rows(cached, {QUICK: ("<=", 1.3)})
    third = tables.Table(f"{count:,} small files: memory of a verification")
    for name, peaks in used.most.items():
        third.row(name, {"ours": peaks}, "MB", MOST)
    shutil.rmtree(source)
    shutil.rmtree(dest)
    return [first, second, third]


def large(place, memory, stack, megabytes, repeat):
    """The table of large files."""
    source, dest = memory / "large", memory / "large-there"
    large_files(source, megabytes)
    subprocess.run(["cp", "-a", source, dest], check=True)
    read = ("-a", "-n", "-c")
    ours = stack.enter_context(contextlib.closing(Verified(place, "large", source, dest, read, "deep")))
    ssh = over_ssh(place, source, dest, read)
    md5 = over_ssh(place, source, dest, (*read, "--checksum-choice=md5"))
    peer, same, other = "b3sum on both sides at once", "rsync -anc, the same connection", "rsync -anc -e ssh"
    old = "rsync -anc -e ssh by MD5, as before 3.2"
    samples = {DEEP: [], peer: [], same: [], other: [], old: []}
    for number in range(repeat + 1):
        ours.forget()
        by_rsync, by_us = ours.times()
        found = {DEEP: by_us, peer: hashed(source, dest), same: by_rsync, other: ssh.time(), old: md5.time()}
        if number > 0:
            for name, sample in found.items():
                samples[name].append(sample)
    table = tables.Comparison(f"{megabytes:,} MB in large files on each side, never read before", "ms")
    table.rows(samples, {peer: ("<=", 1 / 0.9), same: ("<=", 0.35)})
    rate = 2 * megabytes * 1000 / statistics.median(samples[DEEP])
    print(f"  {rate:,.0f} MB/s of both sides together", flush=True)
    shutil.rmtree(source)
    shutil.rmtree(dest)
    return [table]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--files", type=int, default=1_000_000, help="small ones on each side")
    arguments.add_argument("--megabytes", type=int, default=2000, help="in large files on each side")
    arguments.add_argument("--only", choices=["small", "large"])
    options = arguments.parse_args()
    found = []
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        memory = stack.enter_context(harness.memory())
        place = stack.enter_context(Place(sandbox))
        if options.only != "large":
            found += small(place, memory, stack, options.files, options.rounds)
        if options.only != "small":
            found += large(place, memory, stack, options.megabytes, options.rounds)
    tables.finish(*found)


if __name__ == "__main__":
    main()
