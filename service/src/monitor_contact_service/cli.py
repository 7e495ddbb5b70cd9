"""The command line of `monitor-contact`: what can be typed. What it does is in `__main__` and in `call`."""

import argparse
import textwrap
from importlib.metadata import version

from .settings import Settings, variable
from .simulator import DEFAULT_PORT

# Exit codes beside 0. Those of `call` by outcome are `status.Advice` and these two.
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Return the parser; its result has `command` and the options of that command."""
    top = argparse.ArgumentParser(
        prog="monitor-contact",
        description="The safe way to call Amazon Connect's MonitorContact: a gRPC service, its simulator, a caller.",
    )
    top.add_argument("--version", action="version", version=f"monitor-contact {version('monitor-contact-service')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_check_config(commands)
    _add_simulate(commands)
    _add_call(commands)
    return top


Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def _add_serve(commands: "Commands[argparse.ArgumentParser]") -> None:
    commands.add_parser(
        "serve",
        help="run the gRPC service",
        description="Run the gRPC service until SIGTERM or SIGINT; a second signal ends it at once.",
        epilog=_settings_help() + "\n\nexit codes: 0 stopped as asked, 1 the port is taken, 2 wrong configuration",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_check_config(commands: "Commands[argparse.ArgumentParser]") -> None:
    commands.add_parser(
        "check-config",
        help="check the configuration and report every problem, without listening",
        description="Check the settings and AWS's configuration and print what `serve` would use.",
        epilog=_settings_help() + "\n\nexit codes: 0 `serve` would start, 2 wrong configuration",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_simulate(commands: "Commands[argparse.ArgumentParser]") -> None:
    simulate = commands.add_parser(
        "simulate",
        help="run a stand-in for Amazon Connect on loopback",
        description="Serve Connect's wire protocol for a small world of contacts, with faults on demand.",
        epilog="exit codes: 0 stopped as asked, 1 the port is taken, 2 the world file is wrong",
    )
    simulate.add_argument(
        "--listen",
        default=f"127.0.0.1:{DEFAULT_PORT}",
        metavar="HOST:PORT",
        help="loopback address (default: %(default)s)",
    )
    simulate.add_argument("--world", metavar="FILE", help="TOML file of the world (default: the built-in one)")
    simulate.add_argument("--print-world", action="store_true", help="print the built-in world file and exit")


def _add_call(commands: "Commands[argparse.ArgumentParser]") -> None:
    call = commands.add_parser(
        "call",
        help="call a running service once",
        description="Call MonitorContact once, without repetitions, and print the answer as JSON.",
        epilog="exit codes: 0 monitoring has started, 1 the service did not answer, 2 wrong usage, 3 change the "
        "request, 4 ask for permission, 5 the state in Connect must change, 6 repeat later, 7 tell the operators",
    )
    call.add_argument("--target", default="127.0.0.1:50051", help="host:port of the service (default: %(default)s)")
    call.add_argument("--instance-id", required=True, help="the Connect instance")
    call.add_argument("--contact-id", required=True, help="the live contact to listen to")
    call.add_argument("--user-id", required=True, help="the Connect user id of the supervisor who shall listen")
    call.add_argument(
        "--capability",
        action="append",
        choices=("SILENT_MONITOR", "BARGE"),
        default=[],
        help="what the supervisor may do; may be repeated (default: listen only)",
    )
    call.add_argument("--client-token", default="", help="makes repetitions the same action (default: a new UUID)")
    call.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="deadline (default: %(default)s)")


def _settings_help() -> str:
    lines = ["environment variables (AWS's own keep AWS's names, for example AWS_REGION, AWS_PROFILE):"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {variable(name)} (default {field.default})")
        lines.extend(textwrap.wrap(field.description or "", 100, initial_indent="      ", subsequent_indent="      "))
    return "\n".join(lines)
