"""The command line of `monitor-contact`: what can be typed, and which function does it.

The functions are imported when they are asked for: the AWS stack takes a second to import, and `call` needs none of it.
"""

import argparse
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from .exits import EXIT_INTERRUPTED, CannotStartError
from .policy_arguments import add_policy
from .request_arguments import add_request

_COMPOSER = "monitor_contact_service.__main__"
# Module and function.
_COMMANDS = {
    "serve": (_COMPOSER, "serve"),
    "check-config": (_COMPOSER, "check_config"),
    "simulate": ("monitor_contact_service.simulate_command", "simulate"),
    "call": ("monitor_contact_service.call", "call"),
    "health": ("monitor_contact_service.health_command", "health"),
    "policy": ("monitor_contact_service.policy_commands", "policy"),
    "audit": ("monitor_contact_service.audit_verify", "audit_verify"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parser().parse_args(argv)
    # As process 1 of a container, Python ignores SIGTERM until somebody handles it (measured), and credentials can take
    # a minute. Once the event loop runs, `__main__` handles it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        module, function = _COMMANDS[arguments.command]
        command: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        return command(arguments)
    except CannotStartError as error:
        sys.stderr.writelines(f"monitor-contact: {problem}\n" for problem in error.problems)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


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
    _add_health(commands)
    add_policy(commands)
    _add_audit(commands)
    return top


Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


class _HelpWithSettings(argparse.Action):
    """`--help` that lists the settings, and imports them only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"{parser.format_help()}\n{_settings_help()}\n")
        parser.exit()


def _add_serve(commands: "Commands[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser(
        "serve",
        add_help=False,
        help="run the gRPC service",
        description="Run the gRPC service until SIGTERM or SIGINT; a second signal ends it at once.",
        epilog="exit codes: 0 stopped as asked, 1 the port is taken, 2 wrong configuration",
    )
    serve.add_argument("-h", "--help", action=_HelpWithSettings, nargs=0, help="show this text and the settings")


def _add_check_config(commands: "Commands[argparse.ArgumentParser]") -> None:
    check = commands.add_parser(
        "check-config",
        add_help=False,
        help="check the configuration and report every problem, without listening",
        description="Check the settings, the files that they name and AWS's configuration, and print what `serve` "
        "would use; what looks wrong and may be right is a warning. Ports, servers and the audit are not opened: only "
        "`serve` finds what is wrong with those.",
        epilog="exit codes: 0 nothing is wrong, 2 wrong configuration",
    )
    check.add_argument("-h", "--help", action=_HelpWithSettings, nargs=0, help="show this text and the settings")


def _add_simulate(commands: "Commands[argparse.ArgumentParser]") -> None:
    simulate = commands.add_parser(
        "simulate",
        help="run a stand-in for Amazon Connect on loopback",
        description="Serve Connect's wire protocol for a small world of contacts, with faults on demand.",
        epilog="exit codes: 0 stopped as asked, 1 the port is taken, 2 the world file is wrong",
    )
    simulate.add_argument(
        "--listen",
        default="127.0.0.1:4570",
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
        "request, 4 ask for permission, 5 the state in Connect must change, 6 repeat later, 7 tell the operators, "
        "8 stdout did not take the answer, which is on stderr: monitoring may have started",
    )
    call.add_argument("--target", default="127.0.0.1:50051", help="host:port of the service (default: %(default)s)")
    add_request(call)
    call.add_argument("--client-token", default="", help="makes repetitions the same action (default: a new UUID)")
    call.add_argument(
        "--tls-ca", default="", metavar="FILE", help="PEM file of the CAs that vouch for the service; turns TLS on"
    )
    call.add_argument("--tls-cert", default="", metavar="FILE", help="PEM file of the own certificate; turns TLS on")
    call.add_argument("--tls-key", default="", metavar="FILE", help="PEM file of the certificate's private key")
    call.add_argument("--token-file", default="", metavar="FILE", help="file with the bearer token of the caller")
    call.add_argument(
        "--end-user-token-file", default="", metavar="FILE", help="file with the token of the person it is for"
    )
    call.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="deadline (default: %(default)s)")


def _add_health(commands: "Commands[argparse.ArgumentParser]") -> None:
    health = commands.add_parser(
        "health",
        help="ask a running replica how it is",
        description="Ask grpc.health.v1 in plain text: the health port, or a listener without TLS.",
        epilog="exit codes: 0 SERVING, 1 anything else, 2 wrong usage",
    )
    health.add_argument("address", nargs="?", default="127.0.0.1:8081", help="host:port (default: %(default)s)")
    health.add_argument(
        "--service",
        default="readiness",
        metavar="NAME",
        help="readiness, liveness, quota, or a service's full name (default: %(default)s)",
    )


def _add_audit(commands: "Commands[argparse.ArgumentParser]") -> None:
    audit = commands.add_parser("audit", help="verify what was recorded")
    own = audit.add_subparsers(dest="audit_command", required=True, metavar="COMMAND")
    verify = own.add_parser(
        "verify",
        help="check that an audit's files are whole",
        description="Check the chain of hashes, that every intent has one outcome, signatures and anchors.",
        epilog="exit codes: 0 whole, 1 tampered with, 2 only the end of the last line is missing, 3 open intents, "
        "4 nothing was verified: no record, or a file, key or anchor cannot be read",
    )
    verify.add_argument("files", nargs="+", metavar="FILE", help="the audit's files, in any order")
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="SEQ:HASH",
        help="what a checkpoint elsewhere says of a record; may be repeated",
    )
    verify.add_argument(
        "--pubkey",
        action="append",
        default=[],
        metavar="FILE",
        help="PEM file of a public key that checkpoints are signed with; may be repeated",
    )


def _settings_help() -> str:
    from .settings import Settings  # noqa: PLC0415 - see the module's first lines
    from .settings_text import default_text  # noqa: PLC0415 - see the module's first lines
    from .variables import variable  # noqa: PLC0415 - see the module's first lines

    lines = ["environment variables (AWS's own keep AWS's names, for example AWS_REGION, AWS_PROFILE):"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {variable(name)} (default {default_text(name)})")
        lines.extend(textwrap.wrap(field.description or "", 100, initial_indent="      ", subsequent_indent="      "))
    return "\n".join(lines)
