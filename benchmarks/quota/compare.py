"""The service beside boto3's retry modes: `compare.py`, or `compare.py --check`, `--quick`.

Plays every policy in every scenario in virtual time (minutes of CPU, not of waiting), then the herd and the hog in real
time with real boto3 against the simulator, and prints tables. What is measured stands in docs/quota.md.
"""

import argparse
import dataclasses
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import real_time
from contest import Result, contend, policies_of
from refusal import refusal_seconds
from replicas import NoRedisError, redis_server
from scenarios import SCENARIOS, Scenario
from tables import Results, details_table, real_time_table, refusal_verdict, replicas_table, success_table, verdicts

PACKAGES = ("boto3", "grpcio", "aiohttp", "uvloop")
QUICK_SEEDS = 2
MARKS = ("<!-- results: written by make bench-quota -->\n", "<!-- end of results -->\n")


def main() -> int:
    """Play, print, and return the exit code."""
    arguments = _arguments()
    _keep_quiet()
    scenarios = [scenario for scenario in SCENARIOS if not arguments.only or scenario.name in arguments.only]
    try:
        with redis_server():
            results = _play(scenarios, _seeds(quick=arguments.quick), arguments.processes)
    except NoRedisError as error:
        sys.stderr.write(f"quota: {error}\n")
        return 2
    judged = [*verdicts(scenarios, results), refusal_verdict(refusal_seconds())]
    tables = [success_table(scenarios, results), replicas_table(scenarios, results)]
    if arguments.details:
        tables.append(details_table(scenarios, results))
    if arguments.real_time:
        tables.append(real_time_table(real_time.play_all()))
    text = "\n".join([_machine(), "", *(f"- {line}" for _, line in judged), *(_block(table) for table in tables)])
    print(text)
    if arguments.json:
        Path(arguments.json).write_text(_as_json(results))
    if arguments.document:
        _write(Path(arguments.document), text)
    return 1 if arguments.check and not all(met for met, _ in judged) else 0


def _block(table: Iterable[str]) -> str:
    return "\n".join(["", *table])


def _write(document: Path, text: str) -> None:
    """Put the text between the marks of a document."""
    before, begin, rest = document.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise SystemExit(f"quota: {document} has no marks {MARKS[0].strip()} and {MARKS[1].strip()}")
    document.write_text(f"{before}{begin}{text}\n{end}{after}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SEEDS} seeds instead of up to 20")
    parser.add_argument(
        "--no-real-time", dest="real_time", action="store_false", help="leave out what takes real minutes"
    )
    parser.add_argument("--details", action="store_true", help="print waits, fairness and late answers too")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="to play in (default: one per core)")
    parser.add_argument("--document", metavar="FILE", help="write what is printed between the marks of this file")
    parser.add_argument("--json", metavar="FILE", help="write all figures, for plot.py")
    arguments = parser.parse_args()
    if arguments.check and arguments.quick:
        parser.error("--check needs all seeds: with so few, chance decides")
    return arguments


def _seeds(*, quick: bool) -> Callable[[Scenario], int]:
    return lambda scenario: min(scenario.seeds, QUICK_SEEDS) if quick else scenario.seeds


def _play(scenarios: Sequence[Scenario], seeds: Callable[[Scenario], int], processes: int) -> Results:
    wanted = [(scenario.name, policy) for scenario in scenarios for policy in policies_of(scenario)]
    counts = {scenario.name: seeds(scenario) for scenario in scenarios}
    with ProcessPoolExecutor(processes) as pool:
        played = [pool.submit(_contend, name, policy, counts[name]) for name, policy in wanted]
        return {key: future.result() for key, future in zip(wanted, played, strict=True)}


def _contend(name: str, policy: str, seeds: int) -> Result:
    """Play in a child process: scenarios hold functions and so travel by name."""
    _keep_quiet()
    return contend(next(scenario for scenario in SCENARIOS if scenario.name == name), policy, seeds)


def _keep_quiet() -> None:
    """Every failed attempt is a line of the service's log: here they are the purpose."""
    logging.getLogger("monitor_contact_service").setLevel(logging.CRITICAL)


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    system = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{system}, {packages}"


def _as_json(results: Results) -> str:
    return json.dumps({"results": [dataclasses.asdict(result) for result in results.values()]})


if __name__ == "__main__":
    sys.exit(main())
