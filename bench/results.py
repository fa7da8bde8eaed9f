"""Keeps what `bench/run` measured: `results.py FILE NAME` adds the tables of one benchmark (BENCH_RESULTS's file) to
results.json, and writes RESULTS.md and the README's chart anew from all that is there.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

import chart
import harness

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "results.json"


def first_line(*command):
    """The first line that a program says about itself; some do so on standard error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0].strip()


def processor():
    name = re.search(r"^model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {name[1] if name else platform.machine()}, {memory:.0f} GiB"


def circumstances():
    """Where and when the numbers were taken."""
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    commit = first_line("git", "-C", HERE, "log", "-1", "--format=%h")
    changes = subprocess.run(["git", "-C", HERE, "diff", "--quiet", "HEAD", "--", "../src", "../Cargo.lock"], check=False)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": processor(),
        "kernel": f"{platform.release()}, TCP {congestion}",
        "rsync": first_line("rsync", "--version").split()[2],
        "OpenSSH": first_line("ssh", "-V").split(",")[0].removeprefix("OpenSSH_"),
        "rsyncdirector": f"{first_line(harness.binary(), '--version').split()[-1]} ({commit}{changes.returncode * '+'})",
    }


def markdown(table):
    lines = [f"### {table['title']}", ""]
    lines += ["| " + " | ".join(table["columns"]) + " |", "|" + " --- |" * len(table["columns"])]
    for row in table["rows"]:
        cells = row["cells"] + [""] * (len(table["columns"]) - len(row["cells"]))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def document(kept):
    """RESULTS.md: what was measured at once stands under its circumstances."""
    text = ["# Results", "", "Written by `bench/run`; `bench/README.md` says how each is measured.", ""]
    met = [cell for run in kept.values() for table in run["tables"] for row in table["rows"] for cell in row["cells"]]
    missed = sum(cell.endswith(": MISSED") for cell in met)
    text += [f"Bars met: {sum(cell.endswith(': met') for cell in met)}; missed: {missed}.", ""]
    before = None
    for name, run in kept.items():
        facts = {key: value for key, value in run["where"].items() if key != "date"}
        if facts != before:
            text += ["; ".join(f"{key} {value}" for key, value in facts.items()) + ".", ""]
            before = facts
        text += [f"## {name} ({run['where']['date']})", ""]
        text += [markdown(table) for table in run["tables"]]
    return "\n".join(text)


def main():
    measured, name = pathlib.Path(sys.argv[1]), sys.argv[2]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    tables = [json.loads(line) for line in measured.read_text().splitlines()]
    kept[name] = {"where": circumstances(), "tables": tables}
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    (HERE / "RESULTS.md").write_text(document(kept))
    chart.write(kept, HERE / "results.svg")


if __name__ == "__main__":
    main()
