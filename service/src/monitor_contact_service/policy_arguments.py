"""What can be typed after `monitor-contact policy`; `policy_commands` does it. Imports nothing that takes time."""

from typing import TYPE_CHECKING

from .request_arguments import add_request

if TYPE_CHECKING:
    import argparse


def add_policy(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `policy` with its own commands, in `policy_command`."""
    policy = commands.add_parser("policy", help="check a policy file, or explain what it says of a call")
    own = policy.add_subparsers(dest="policy_command", required=True, metavar="COMMAND")
    check = own.add_parser(
        "check",
        help="check a policy file and run the tests beside it",
        description="Read a Cedar policy file as `serve` would, and run FILE's tests: policy.cedartest.toml beside "
        "policy.cedar.",
        epilog="exit codes: 0 `serve` would take it, 2 every problem has been printed",
    )
    check.add_argument("file", metavar="FILE", help="the policy file")
    _add_explain(own)


def _add_explain(own: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    explain = own.add_parser(
        "explain",
        help="say what a policy file says of a call, and which rules decide",
        description="Decide a call by a policy file, without Connect: the supervisor may do everything there unless "
        "options say otherwise.",
        epilog="exit codes: 0 allowed, 2 a file or option is wrong, 4 denied",
    )
    explain.add_argument("file", metavar="FILE", help="the policy file")
    explain.add_argument("--access", metavar="FILE", help="access file (default: only anonymous, with the role demo)")
    explain.add_argument("--caller", required=True, metavar="ID", help="who calls, as the access file names it")
    add_request(explain)
    explain.add_argument("--acting-for", metavar="USER_ID", help="Connect user of the person whose token is shown")
    explain.add_argument("--no-listen-in", action="store_true", help="the supervisor lacks ManagerListenIn")
    explain.add_argument("--no-barge-in", action="store_true", help="the supervisor lacks ManagerBargeIn")
    explain.add_argument("--restricted", action="store_true", help="the supervisor's profiles are limited")
    explain.add_argument(
        "--at",
        metavar="TIME",
        help="local time in the zone of MONITOR_CONTACT_POLICY_TIMEZONE, such as 2026-11-25T14:30 (default: now)",
    )
