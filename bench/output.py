"""A command that prints a million lines: how long it takes with them in the log, and what memory it costs."""

import argparse
import pathlib
import threading

import harness
import tables

LINES = 1_000_000
JOBS = """\
  - id: chatter
    type: local
    actions:
      - {{action: command, id: begin, command: "{0}/stamp", args: ["-"]}}
      - {{action: command, id: seq, command: seq, args: ["{1}"]}}
      - {{action: command, id: end, command: "{0}/stamp", args: ["-"]}}
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    table = tables.Table(f"A command that prints {LINES:,} lines")
    times, growth = {}, {}
    with harness.Sandbox() as sandbox:
        for name, start, settle in harness.programs():
            stamper = sandbox.stamper(name)
            with start(sandbox, JOBS.format(stamper.directory, LINES)) as program:
                program.ready(settle)
                for number in range(options.rounds):
                    with Memory(program) as memory:
                        program.hup()
                        begin, end = stamper.next(2)
                    times.setdefault(name, []).append(harness.milliseconds(end - begin))
                    growth.setdefault(name, []).append(memory.growth())
                    harness.until("the run's end", lambda done=number + 1: ended(program, done))
                check_log(name, program, options.rounds)
    table.row("first stamp -> second stamp", times, "ms", bar=300)
    table.row("peak of resident memory above idle", growth, "MB", bar=5)
    tables.finish(table)


class Memory:
    """The growth of a director's resident memory while this lasts: the kernel's own peak for the director itself, samples
    for the processes of its own kind that it forks, as the peer does for each action."""

    def __init__(self, program):
        self.program, self.done, self.forked = program, threading.Event(), 0

    def __enter__(self):
        self.before = self.program.status("VmRSS")
        pathlib.Path(f"/proc/{self.program.pid}/clear_refs").write_text("5")  # the peak starts anew
        self.sampler = threading.Thread(target=self.sample)
        self.sampler.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.sampler.join()

    def sample(self):
        own = pathlib.Path(f"/proc/{self.program.pid}/exe").resolve()
        while not self.done.wait(0.01):
            total = 0
            children = pathlib.Path(f"/proc/{self.program.pid}/task").glob("*/children")
            for pid in (pid for file in children for pid in file.read_text().split()):
                try:
                    if pathlib.Path(f"/proc/{pid}/exe").resolve() == own:
                        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
                        total += pages * 4 - self.before  # it began as a copy
                except OSError:
                    continue
            self.forked = max(self.forked, total)

    def growth(self):
        """MB."""
        return (max(self.program.status("VmHWM") - self.before, 0) + self.forked) / 1024


def ended(program, count):
    return f'runs_completed_total{{rsync_id="{program.name}"}} {count}' in (program.scrape() or "")


def check_log(name, program, rounds):
    """What was not written would be quickly written."""
    last = sum(str(LINES) in line for line in program.log.open(errors="replace"))
    if last < rounds:
        raise RuntimeError(f"{name}: the last line is in the log {last} times, not {rounds}")


main()
