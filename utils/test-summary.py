#!/usr/bin/env python3
"""Sums the results of the test runners: test-summary.py lit.json unit.xml python.xml

Takes lit's JSON and JUnit's XML, prints a line for each file and for each failed test, and last
`N passed, N failed, N skipped`. Exits 1 when a test failed, or when a runner left no file or ran no test: a suite that
is not there must not look like one that passed."""
import json
import os
import sys
import xml.etree.ElementTree

LIT_PASSED = {"PASS", "FLAKYPASS", "XFAIL"}
LIT_SKIPPED = {"UNSUPPORTED", "SKIPPED", "EXCLUDED"}


def read_lit(path):
    """[(name, "passed" | "failed" | "skipped")] of lit's JSON; any code that is not known is a failure."""
    with open(path) as file:
        tests = json.load(file)["tests"]
    return [
        (test["name"], "passed" if test["code"] in LIT_PASSED else "skipped" if test["code"] in LIT_SKIPPED else "failed")
        for test in tests
    ]


def read_junit(path):
    """The same of a JUnit file, ctest's or pytest's."""
    found = []
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname') or ''} :: {case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            result = "failed"
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            result = "skipped"
        else:
            result = "passed"
        found.append((name, result))
    return found


def main():
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sys.argv[1:]:
        suite = os.path.splitext(os.path.basename(path))[0]
        try:
            tests = (read_lit if path.endswith(".json") else read_junit)(path)
        except (OSError, ValueError, KeyError, xml.etree.ElementTree.ParseError) as error:
            tests = [(f"{suite} left no readable result: {error}", "failed")]
        if not tests:
            tests = [(f"{suite} ran no test", "failed")]
        count = {result: sum(1 for _, each in tests if each == result) for result in total}
        for name, result in tests:
            if result == "failed":
                print(f"FAILED {suite}: {name}")
        print(f"{suite}: " + ", ".join(f"{count[result]} {result}" for result in total))
        for result in total:
            total[result] += count[result]
    print(", ".join(f"{total[result]} {result}" for result in total), flush=True)
    sys.exit(1 if total["failed"] else 0)


if __name__ == "__main__":
    main()
