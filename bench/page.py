"""The status page of an instance with 200 jobs and a history of 100,000 runs, and what 1,000 scrapes a second do to a start."""

import argparse
import http.client
import random
import sqlite3
import subprocess
import threading
import time

import harness
import tables

JOB = """\
  - id: customer-{1:03d}-home
    type: local
    actions:
      - {{action: sync, id: copy, source: "{0}/source/", dest: "{0}/dest/{1}", opts: ["-a"]}}
"""
ONE = """\
  - id: files
    type: local
    actions:
      - {{action: sync, id: one, source: "{0}/source/", dest: "{0}/dest", opts: ["-a"]}}
"""
RUNS = 100_000
JOBS = 200


def fill(database):
    """Writes runs of the last months into a history that the program has made."""
    now = time.time_ns() // harness.MILLISECOND
    step = 120 * 86_400_000 // RUNS
    with sqlite3.connect(database) as history:
        for number in range(RUNS):
            started = now - (RUNS - number) * step
            outcome = "failed" if number % 50 == 0 else "succeeded"
            job = f"customer-{number % JOBS:03d}-home"
            history.execute(
                "INSERT INTO run (id, trigger, started, ended, outcome) VALUES (?, 'cron', ?, ?, 'ended')",
                (started, started, started + 60_000),
            )
            row = history.execute(
                "INSERT INTO job_run (run, job, trigger, started, ended, outcome, detail) VALUES (?, ?, 'cron', ?, ?, ?, ?)",
                (started, job, started, started + 60_000, outcome, "action copy: exit code 23" if number % 50 == 0 else None),
            )
            history.execute(
                "INSERT INTO action_run (job_run, action, command, started, ended, outcome, exit_code, files, created, deleted,"
                " transferred, source_bytes, transferred_bytes, sent_bytes, received_bytes)"
                " VALUES (?, 'copy', 'rsync -a a b', ?, ?, ?, 0, 900, 3, 1, 40, 90000000, 4000000, 4100000, 900)",
                (row.lastrowid, started, started + 59_000, outcome),
            )
    history.close()


def ask(port, path):
    """The milliseconds until the whole answer was there, and its size."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    before = time.time_ns()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = harness.milliseconds(time.time_ns() - before)
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}")
    return took, len(body)


def command(program, arguments):
    """The milliseconds that a command about an instance takes."""
    before = time.time_ns()
    command = [harness.binary(), *arguments, "--config", program.config]
    subprocess.run(command, env=program.environment, stdout=subprocess.DEVNULL, check=True)
    return harness.milliseconds(time.time_ns() - before)


def pages(sandbox, rounds, table):
    jobs = "".join(JOB.format(sandbox.dir, number) for number in range(JOBS))
    database = sandbox.dir / "state/pages/history.db"
    with harness.ours(sandbox, jobs, name="pages") as program:
        program.ready()
        harness.until("the history is there", database.exists)
    fill(database)
    with harness.ours(sandbox, jobs, name="pages") as program:
        program.ready()
        time.sleep(1)
        before = program.status("VmRSS")
        table.row("resident memory when idle, 200 jobs", {"ours": [before / 1024]}, "MB")
        with sqlite3.connect(database) as history:
            (run,) = history.execute("SELECT max(id) FROM run").fetchone()
        history.close()
        for what, path, bar in [
            ("overview", "/", 20),
            ("a job's page", "/jobs/customer-007-home", 50),
            ("a run's page", f"/runs/{run}", 50),
        ]:
            answers = [ask(program.port, path) for _ in range(rounds)]
            table.row(f"{what}, 200 jobs, 100,000 runs", {"ours": [took for took, _ in answers]}, "ms", bar=bar)
            if path == "/":
                table.row("its size", {"ours": [answers[0][1] / 1000]}, "kB", bar=60)
        for arguments in ["history"], ["history", "--failed"], ["history", "--job", "customer-007-home"]:
            commands = [command(program, arguments) for _ in range(rounds)]
            table.row(f"rsyncdirector {' '.join(arguments)}", {"ours": commands}, "ms", bar=50)
        time.sleep(12)  # the threads for blocking work are gone
        table.row("resident memory that looking left", {"ours": [(program.status("VmRSS") - before) / 1024]}, "MB", bar=5)


def scraper(port, stop, count, rate):
    """Scrapes over one connection, at a steady rate."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    due = time.monotonic()
    while not stop.is_set():
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        count[0] += 1
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))


def starts(sandbox, rounds, scrapes):
    """HUP to rsync executed, while so many scrapes a second go on; and how many there were."""
    stamper = sandbox.stamper(f"page-{scrapes}")
    samples, stop, counts, threads = [], threading.Event(), [], []
    with harness.ours(sandbox, ONE.format(sandbox.dir), name=f"scraped-{scrapes}", path=stamper.directory) as program:
        program.ready(0.1)
        for _ in range(4 if scrapes else 0):
            counts.append([0])
            arguments = (program.port, stop, counts[-1], scrapes / 4)
            threads.append(threading.Thread(target=scraper, args=arguments, daemon=True))
            threads[-1].start()
        began = time.monotonic()
        for _ in range(rounds):
            time.sleep(random.uniform(0.2, 0.3))
            sent = program.hup()
            samples.append(harness.milliseconds(stamper.next(pause=0.01) - sent))
        rate = sum(count[0] for count in counts) / (time.monotonic() - began)
        stop.set()
        for thread in threads:
            thread.join()
    return samples, rate


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=40)
    options = arguments.parse_args()
    table = tables.Table("The status page, and scrapes")
    with harness.Sandbox() as sandbox:
        pages(sandbox, options.rounds, table)
        calm, _ = starts(sandbox, options.rounds, 0)
        busy, rate = starts(sandbox, options.rounds, 1000)
        table.row("HUP -> rsync executed, no scrapes", {"ours": calm}, "ms")
        table.row(f"the same with {rate:.0f} scrapes/s", {"ours": busy}, "ms", bar=20)
    tables.finish(table)


main()
