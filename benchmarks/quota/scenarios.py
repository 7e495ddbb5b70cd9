"""The scenarios: what is asked of Connect's quota, and what the service must show in some of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType

import arrivals
from arrivals import HOG, LONG_SECONDS, SHORT_SECONDS, Arrivals, Call
from figures import Group
from upstream import Behaviour, Span

# 300 s of load and 120 s for those who still wait.
UNTIL_SECONDS = 420.0
MINUTES = (0.0, 60.0, 120.0, 180.0, 240.0)
OUTAGE = Span(100.0, 130.0)
HALVED = Span(100.0, 200.0)
ALWAYS = Span(0.0, UNTIL_SECONDS)
AS_DOCUMENTED = Behaviour()


def everybody(_: Call) -> bool:
    """All calls."""
    return True


def _within(span: Span) -> Group:
    return lambda call: call.at in span


def _deadline(seconds: float) -> Group:
    return lambda call: call.deadline_seconds == seconds


@dataclass(frozen=True, slots=True)
class Bar:
    """What the service must reach: that share of successes in a group, or no 429 at all."""

    title: str
    group: str = "all"
    success: float = 0.0
    no_throttling: bool = False


class Contenders(Enum):
    """Who plays in a scenario."""

    BOTO3 = auto()  # boto3's modes beside the service
    BOTH_LINES = auto()  # botocore 1.43's too: its retries differ where Connect fails
    REPLICAS = auto()  # several replicas of the service beside one


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load, a Connect, and what is looked at.

    Args:
        name: short, for the command line.
        title: what happens, for people.
        arrivals: who calls when, by seed.
        seeds: how many; each is a run.
        behaviour: of Connect.
        groups: the calls that are counted, by name.
        load_span: the attempts that are counted for the 429s.
        bars: what the service must reach.
        contenders: who plays.
    """

    name: str
    title: str
    arrivals: Arrivals
    seeds: int
    behaviour: Behaviour = AS_DOCUMENTED
    groups: Mapping[str, Group] = field(default_factory=lambda: MappingProxyType({"all": everybody}))
    load_span: Span = ALWAYS
    bars: Sequence[Bar] = ()
    contenders: Contenders = Contenders.BOTO3


def _outage(name: str, title: str, behaviour: Behaviour) -> Scenario:
    groups = {"during": _within(OUTAGE), "after": _within(Span(OUTAGE.end, UNTIL_SECONDS))}
    return Scenario(name, title, arrivals.steady(1.6), 10, behaviour, groups, contenders=Contenders.BOTH_LINES)


SCENARIOS = (
    Scenario(
        "herd",
        "100 callers at once, 60 s deadline",
        arrivals.herd(100, 60.0, 0.05),
        20,
        bars=(Bar("herd of 100", success=1.0, no_throttling=True),),
    ),
    Scenario(
        "cron",
        "40 callers at once every 60 s, 30 s deadline",
        arrivals.herd(40, 30.0, 0.2, MINUTES),
        10,
        bars=(Bar("cron of 40", success=1.0, no_throttling=True),),
    ),
    Scenario(
        "hog",
        "one caller at 20/s beside nine at 0.1/s",
        arrivals.hog(20.0, 9, 0.1),
        10,
        groups={"the nine": lambda call: call.caller != HOG, "the hog": lambda call: call.caller == HOG},
        bars=(Bar("light callers beside a hog", "the nine", success=0.998),),
    ),
    *(
        Scenario(
            f"steady-{rate:g}",
            f"20 callers, {rate:g}/s together",
            arrivals.steady(rate),
            20,
            bars=(Bar("steady 1.8/s", success=0.998, no_throttling=True),) if rate == 1.8 else (),
        )
        for rate in (1.0, 1.8, 2.4, 4.0, 20.0)
    ),
    *(
        Scenario(
            f"mixed-{rate:g}",
            f"{rate:g}/s, half with 2 s and half with 30 s deadline",
            arrivals.mixed(rate),
            10,
            groups={"2 s": _deadline(SHORT_SECONDS), "30 s": _deadline(LONG_SECONDS), "all": everybody},
            bars=(Bar("2.4/s, mixed deadlines", success=0.86),) if rate == 2.4 else (),
        )
        for rate in (1.8, 2.4)
    ),
    *(
        Scenario(
            f"errors-{share:.0%}".rstrip("%"),
            f"1.2/s, {share:.0%} of the admitted calls end as 500s",
            arrivals.steady(1.2),
            10,
            Behaviour(error_share=share),
            bars=(Bar("20 % 500s at 1.2/s", success=0.998),) if share == 0.2 else (),
            contenders=Contenders.BOTH_LINES,
        )
        for share in (0.2, 0.4)
    ),
    _outage("outage-500", "1.6/s, only 500s for 30 s", Behaviour(errors=OUTAGE)),
    _outage("outage-hang", "1.6/s, calls hang 5 s for 30 s", Behaviour(hangs=OUTAGE)),
    Scenario(
        "halved",
        "1.6/s, the quota halved for 100 s",
        arrivals.steady(1.6),
        10,
        Behaviour(slow=HALVED),
        {"during": _within(HALVED), "after": _within(Span(HALVED.end, UNTIL_SECONDS))},
        HALVED,
        (Bar("quota halved, during", "during", success=0.70), Bar("quota halved, after", "after", success=0.99)),
    ),
    *(
        Scenario(f"callers-{count}", f"4/s from {count} caller{'s' * (count > 1)}", arrivals.steady(4.0, count), 8)
        for count in (1, 5, 20, 100)
    ),
    *(
        Scenario(
            f"costly-{rate:g}",
            f"{rate:g}/s, and a refused call takes a token too",
            arrivals.steady(rate),
            20,
            Behaviour(refused_cost=1.0, floor=-5.0),
        )
        for rate in (1.0, 1.8)
    ),
    Scenario("replicas", "1.6/s", arrivals.steady(1.6), 10, contenders=Contenders.REPLICAS),
    Scenario(
        "replicas-herd", "100 callers at once", arrivals.herd(100, 60.0, 0.05), 10, contenders=Contenders.REPLICAS
    ),
)
