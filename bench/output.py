"""A command that prints a million lines: how long it takes with them in the log, and what memory it costs."""

import argparse
import pathlib

import harness

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
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    table = harness.Table(f"A command that prints {LINES:,} lines")
    times, growth = {}, {}
    with harness.Sandbox() as sandbox:
        for name, start, settle in harness.programs():
            stamper = sandbox.stamper(name)
            with start(sandbox, JOBS.format(stamper.directory, LINES)) as program:
                program.ready(settle)
                for number in range(options.rounds):
                    resident = program.status("VmRSS")
                    pathlib.Path(f"/proc/{program.pid}/clear_refs").write_text("5")  # the peak starts anew
                    program.hup()
                    begin, end = stamper.next(2)
                    times.setdefault(name, []).append(harness.milliseconds(end - begin))
                    growth.setdefault(name, []).append((program.status("VmHWM") - resident) / 1024)
                    harness.until("the run's end", lambda done=number + 1: ended(program, done))
                check_log(name, program, options.rounds)
    table.row("first stamp -> second stamp", times, "ms", bar=300)
    table.row("peak of resident memory above idle", growth, "MB", bar=5)
    table.finish()


def ended(program, count):
    return f'runs_completed_total{{rsync_id="{program.name}"}} {count}' in (program.scrape() or "")


def check_log(name, program, rounds):
    """What was not written would be quickly written."""
    last = sum(str(LINES) in line for line in program.log.open(errors="replace"))
    if last < rounds:
        raise RuntimeError(f"{name}: the last line is in the log {last} times, not {rounds}")


main()
