"""From a trigger to the moment at which rsync is executed: SIGHUP, and with `--minutes N` the cron second."""

import argparse
import random
import time

import harness
import tables

JOBS = """\
  - id: files
    type: local
    actions:
      - {{action: sync, id: one, source: "{0}/source/", dest: "{0}/dest", opts: ["-a"]}}
"""


def hup(sandbox, rounds):
    """One sample of each program in turn, at random phases."""
    samples, running, stampers = {}, [], {}
    for name, start, settle in harness.programs():
        stampers[name] = sandbox.stamper(f"hup-{name}")
        program = start(sandbox, JOBS.format(sandbox.dir), path=stampers[name].directory)
        program.ready(settle)
        running.append((name, program))
    try:
        for _ in range(rounds):
            for name, program in running:
                time.sleep(random.uniform(0.2, 0.3))
                sent = program.hup()
                samples.setdefault(name, []).append(harness.milliseconds(stampers[name].next() - sent))
    finally:
        for _, program in running:
            program.__exit__()
    return samples


def cron(sandbox, minutes):
    """Every minute of both at once."""
    samples, running = {}, []
    for name, start, settle in harness.programs():
        stamper = sandbox.stamper(f"cron-{name}")
        program = start(sandbox, JOBS.format(sandbox.dir), path=stamper.directory, schedule="* * * * *")
        program.ready(settle)
        running.append((name, program, stamper))
    try:
        for _ in range(minutes):
            for name, _, stamper in running:
                stamp = stamper.next(seconds=70)
                samples.setdefault(name, []).append(harness.milliseconds(stamp % 60_000_000_000))
    finally:
        for _, program, _ in running:
            program.__exit__()
    return samples


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--minutes", type=int, default=3, help="0 leaves the cron second out")
    options = arguments.parse_args()
    table = tables.Table("Trigger to rsync executed")
    with harness.Sandbox() as sandbox:
        table.row("HUP -> rsync executed", hup(sandbox, options.rounds), "ms", bar=5)
        if options.minutes:
            table.row("cron second -> rsync executed", cron(sandbox, options.minutes), "ms", bar=5)
    tables.finish(table)


main()
