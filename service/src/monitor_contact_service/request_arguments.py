"""How a request is typed, for `call` and for `policy explain`. Imports nothing that takes time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_request(parser: "argparse.ArgumentParser") -> None:
    """Add what a request says: the three ids, the capabilities, and why it is made."""
    parser.add_argument("--instance-id", required=True, metavar="ID", help="the Connect instance")
    parser.add_argument("--contact-id", required=True, metavar="ID", help="the live contact to listen to")
    parser.add_argument(
        "--user-id", required=True, metavar="ID", help="the Connect user id of the supervisor who shall listen"
    )
    parser.add_argument(
        "--capability",
        action="append",
        choices=("SILENT_MONITOR", "BARGE"),
        default=[],
        help="what the supervisor may do; may be repeated (default: SILENT_MONITOR)",
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for policy and audit")
    parser.add_argument("--ticket", default="", metavar="TEXT", help="the case it belongs to, for policy and audit")
