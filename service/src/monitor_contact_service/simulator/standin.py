"""The stand-in for Connect without a network: one request in, one answer out.

Puts the checks of docs/simulator.md in order and keeps the account's state: buckets, tokens, sessions. A call comes
in two halves, so that time can pass between them: `begin` is checks 2 to 5, `finish` checks 6 to 11. Pure but for that
state and for new contact ids. HTTP, faults and waiting are `server`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from . import answers
from .answers import Answer, Refusal
from .buckets import Buckets, Quota
from .presence import current_user_data
from .reads import read
from .rules import MonitorRequest, judge, parse
from .sessions import Session, Sessions
from .signature import SignedRequest, normalise_path, verify
from .switches import Switches
from .tokens import TokenBook
from .world import World

MONITOR_CONTACT = "MonitorContact"
_READS = {
    "users": "DescribeUser",
    "security-profiles-permissions": "ListSecurityProfilePermissions",
    "security-profiles": "DescribeSecurityProfile",
    "contacts": "DescribeContact",
}
CURRENT_USER_DATA = "GetCurrentUserData"
APIS = (MONITOR_CONTACT, *_READS.values(), CURRENT_USER_DATA)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to an API that exists. The two ids are of the path, decoded, and empty where it has none."""

    api: str
    request: SignedRequest
    instance_id: str = ""
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that passed checks 2 to 5. `monitor` is None for a read."""

    call: Call
    monitor: MonitorRequest | None = None
    token: str | None = None


def route(request: SignedRequest) -> Call | None:
    """Check 1: find the API by method and normalised path. None: there is no such operation."""
    match request.method, normalise_path(request.target.partition("?")[0]).split("/")[1:]:
        case "POST", ["contact", "monitor"]:
            return Call(MONITOR_CONTACT, request)
        case "POST", ["metrics", "userdata", instance_id] if instance_id:
            return Call(CURRENT_USER_DATA, request, unquote(instance_id))
        case "GET", [kind, instance_id, resource_id] if kind in _READS and resource_id:
            return Call(_READS[kind], request, unquote(instance_id), unquote(resource_id))
    return None


class StandIn:
    """One account in one Region: its world, its quotas, the tokens it has seen and the sessions that run."""

    def __init__(
        self, world: World, switches: Switches, quotas: Mapping[str, Quota], new_id: Callable[[], str]
    ) -> None:
        self.world = world
        self.switches = switches
        self.buckets = Buckets(quotas)
        self.sessions = Sessions()
        self._tokens: TokenBook[MonitorRequest] = TokenBook()
        self._new_id = new_id

    def begin(self, call: Call, now: float, skew_seconds: float = 0.0) -> Pending | Answer | Refusal:
        """Checks 2 to 5. A MonitorContact that passes holds its token in flight until `finish`.

        skew_seconds: how far ahead of `now` the clock is by which signatures are judged.
        """
        switches = self.switches
        refusal = verify(
            call.request,
            self.world.access_keys,
            self.world.region,
            now + skew_seconds,
            switches.signature_window_seconds,
        )
        if refusal is not None:
            return refusal
        if not self.buckets.take(call.api, now, refused_calls_free=switches.refused_calls_free):
            return answers.THROTTLED
        if call.api != MONITOR_CONTACT:
            return Pending(call)
        parsed = parse(call.request.body)
        if isinstance(parsed, Refusal):
            return parsed
        request, token = parsed
        if token is not None:
            known = self._tokens.recall(token, request, now)
            if known is not None:
                return known
            self._tokens.begin(token, request, now, switches.token_lifetime_seconds)
        return Pending(call, request, token)

    def finish(self, pending: Pending, now: float) -> Answer | Refusal:
        """Checks 6 to 11. A refused call forgets its token; one that acted has it answered alike from now on."""
        if pending.monitor is None:
            call = pending.call
            if call.api == CURRENT_USER_DATA:
                return current_user_data(call.instance_id, call.request.body, self.world, self.sessions)
            query = call.request.target.partition("?")[2]
            return read(call.api, call.instance_id, call.resource_id, query, self.world, self.switches)
        answer = self._monitor(pending.monitor, now)
        if pending.token is not None:
            if isinstance(answer, Refusal):
                self._tokens.forget(pending.token)
            else:
                self._tokens.keep(pending.token, answer)
        return answer

    def _monitor(self, request: MonitorRequest, now: float) -> Answer | Refusal:
        situation = judge(request, self.world, self.sessions, self.switches)
        if isinstance(situation, Refusal):
            return situation
        instance, contact, user = situation.instance, situation.contact, situation.user
        new_id = self._new_id()
        arn = self.world.arn(instance.id, "contact", new_id)
        self.sessions.add(
            Session(new_id, arn, instance.id, contact.id, user.id, contact.channel, request.capabilities, now)
        )
        return answers.succeed({"ContactId": new_id, "ContactArn": arn})
