"""Judges a run of scripts/test: coverage per package with its bars, and one last line that sums up the suites.

Run as: verdict.py [--gate] REPORTS COVERAGE_JSON, REPORTS being a folder with one JUnit file per suite. With --gate the
coverage bars count too; without it (a part of the suites, or chosen tests) they are only printed.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as Xml

BARS = {"tasks": 98.0, "whole": 85.0}  # per cent of lines
LEAST_COVERED = 8

Counts = dict[str, list[int]]  # name: [lines run, lines]


def percent(run: int, lines: int) -> float:
    """Share of the lines that ran; an empty package misses nothing."""
    return 100.0 * run / lines if lines else 100.0


def package_counts(files: dict[str, dict[str, dict[str, int]]]) -> Counts:
    """Lines run and lines of each package, and of the whole."""
    counts: Counts = defaultdict(lambda: [0, 0])
    for name, file in files.items():
        for group in (Path(name).parts[0], "whole"):
            counts[group][0] += file["summary"]["covered_lines"]
            counts[group][1] += file["summary"]["num_statements"]
    return counts


def coverage(path: Path) -> list[str]:
    """Print the table; the bars that are missed, in words."""
    files = json.loads(path.read_text())["files"]
    counts = package_counts(files)
    missed = []
    print(f"\n{'package':<12}{'lines':>8}{'missed':>8}{'covered':>9}   bar")
    for name in [*sorted(set(counts) - {"whole"}), "whole"]:
        run, lines = counts[name]
        bar = BARS.get(name)
        print(f"{name:<12}{lines:>8}{lines - run:>8}{percent(run, lines):>8.1f}%   {f'{bar:.0f}%' if bar else '-'}")
        if bar and percent(run, lines) < bar:
            missed.append(f"coverage of {name} is {percent(run, lines):.1f}%, the bar is {bar:.0f}%")
    by_missing = sorted(files.items(), key=lambda item: item[1]["summary"]["missing_lines"], reverse=True)
    print(
        "most lines missed: "
        + ", ".join(f"{n} ({f['summary']['missing_lines']})" for n, f in by_missing[:LEAST_COVERED])
    )
    return missed


def suites(folder: Path) -> tuple[dict[str, int], float, list[str]]:
    """Sums over the JUnit files: tests by outcome, seconds, and the names of suites that ran nothing."""
    sums = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    seconds = 0.0
    empty = []
    for path in sorted(folder.glob("*.xml")):
        # The file is pytest's own, written a moment ago.
        suite = Xml.parse(path).getroot().find("testsuite")  # noqa: S314
        if suite is None or suite.get("tests") == "0":
            empty.append(path.stem)
            continue
        seconds += float(suite.get("time", "0"))
        for name in sums:
            sums[name] += int(suite.get(name, "0"))
    return sums, seconds, empty


def main(arguments: list[str]) -> int:
    """Print everything; 1 when a bar is missed or a suite failed."""
    gate = "--gate" in arguments
    reports, measured = (Path(word) for word in arguments if word != "--gate")
    missed = coverage(measured) if measured.exists() else ["nothing was measured"]
    sums, seconds, empty = suites(reports)
    if gate:
        missed += [f"the suite {name} has no tests" for name in empty]
        print("".join(f"FAILED {line}\n" for line in missed), end="")
    failed = sums["failures"] + sums["errors"]
    passed = sums["tests"] - failed - sums["skipped"]
    words = [f"{failed} failed"] if failed else []
    words += [f"{passed} passed"] + ([f"{sums['skipped']} skipped"] if sums["skipped"] else [])
    print(f"\n===== {', '.join(words)} in {seconds:.1f}s =====")
    return 1 if failed or (gate and missed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
