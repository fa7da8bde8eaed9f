"""An instance that has nothing to do: time until it answers, memory, wake-ups and CPU over a minute."""

import argparse
import os
import pathlib
import time

import harness
import tables

JOBS = """\
  - id: files
    type: local
    actions:
      - {{action: sync, id: one, source: "{0}/source/", dest: "{0}/dest", opts: ["-a"]}}
"""
TICK = 1000 / os.sysconf("SC_CLK_TCK")  # milliseconds


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def wakeups(program):
    """How often its threads went to sleep or were put aside: one per wake-up."""
    return program.tasks("voluntary_ctxt_switches") + program.tasks("nonvoluntary_ctxt_switches")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--starts", type=int, default=10)
    arguments.add_argument("--seconds", type=int, default=60)
    options = arguments.parse_args()
    table = tables.Table("An idle instance")
    with harness.Sandbox() as sandbox:
        starts = {}
        for _ in range(options.starts):
            for name, start, settle in harness.programs():
                with start(sandbox, JOBS.format(sandbox.dir)) as program:
                    starts.setdefault(name, []).append(harness.milliseconds(program.ready() - program.started))
                    time.sleep(settle)
        table.row("start -> first answer of /metrics", starts, "ms", bar=50)

        running = []
        for name, start, settle in harness.programs():
            program = start(sandbox, JOBS.format(sandbox.dir))
            program.ready(settle)
            running.append((name, program))
        try:
            time.sleep(3)
            before = {name: (wakeups(program), cpu(program.pid)) for name, program in running}
            time.sleep(options.seconds)
            after = {name: (wakeups(program), cpu(program.pid)) for name, program in running}
            memory = {name: [program.status("VmRSS") / 1024] for name, program in running}
        finally:
            for _, program in running:
                program.__exit__()
    per_minute = 60 / options.seconds
    table.row("resident memory", memory, "MB", bar=15)
    # The clock is looked at now and then, since the host may have slept or been set.
    table.row("wake-ups per minute", {n: [(after[n][0] - before[n][0]) * per_minute] for n in before}, "")
    table.row("CPU per minute", {n: [(after[n][1] - before[n][1]) * per_minute] for n in before}, "ms")
    tables.finish(table)


main()
