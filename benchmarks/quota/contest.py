"""Plays every policy in a scenario, under all its seeds, and keeps what tables, bars and plots need of the runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import boto3_model
import replicas
import service_model
from boto3_model import boto3
from figures import Figures, Load, figures, figures_by_caller, load
from scenarios import UNTIL_SECONDS, Contenders, Scenario
from simulation import PolicyFactory, Run, play
from upstream import Answer

BIN_SECONDS = 5.0
SERVICE = "service"
# Policies of botocore 1.43 where its retries differ from 1.44's.
OLDER = " 1.43"

POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "legacy": boto3(boto3_model.LEGACY, shared=False),
        "standard, own clients": boto3(boto3_model.STANDARD_1_44, shared=False),
        "standard, one client": boto3(boto3_model.STANDARD_1_44, shared=True),
        "adaptive, own clients": boto3(boto3_model.ADAPTIVE_1_44, shared=False),
        "adaptive, one client": boto3(boto3_model.ADAPTIVE_1_44, shared=True),
        SERVICE: service_model.service,
    }
)
OLDER_POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "standard, own clients" + OLDER: boto3(boto3_model.STANDARD_1_43, shared=False),
        "standard, one client" + OLDER: boto3(boto3_model.STANDARD_1_43, shared=True),
        "adaptive, own clients" + OLDER: boto3(boto3_model.ADAPTIVE_1_43, shared=False),
        "adaptive, one client" + OLDER: boto3(boto3_model.ADAPTIVE_1_43, shared=True),
    }
)
SHARED, SPLIT = "service, 3 replicas over Redis", "service, 3 replicas, a third of the quota each"
REPLICAS: Mapping[str, PolicyFactory] = MappingProxyType(
    {SERVICE: service_model.service, SHARED: replicas.over_redis, SPLIT: replicas.split}
)
BY_CONTENDERS: Mapping[Contenders, Mapping[str, PolicyFactory]] = MappingProxyType(
    {
        Contenders.BOTO3: POLICIES,
        Contenders.BOTH_LINES: {**POLICIES, **OLDER_POLICIES},
        Contenders.REPLICAS: REPLICAS,
    }
)


@dataclass(frozen=True, slots=True)
class Result:
    """One policy in one scenario, all seeds together.

    `throttled_by_bin` is the mean number of 429s in each 5 s from the start on.
    """

    scenario: str
    policy: str
    groups: Mapping[str, Figures]
    load: Load
    callers: Mapping[str, Figures]
    throttled_by_bin: Sequence[float]


def policies_of(scenario: Scenario) -> Sequence[str]:
    """Return the names of the policies that play in a scenario."""
    return list(BY_CONTENDERS[scenario.contenders])


def contend(scenario: Scenario, policy: str, seeds: int) -> Result:
    """Play one policy in one scenario under so many seeds."""
    factory = BY_CONTENDERS[scenario.contenders][policy]
    runs = [play(scenario.arrivals(seed), scenario.behaviour, factory, seed, UNTIL_SECONDS) for seed in range(seeds)]
    return Result(
        scenario.name,
        policy,
        {name: figures(runs, group) for name, group in scenario.groups.items()},
        load(runs, lambda attempt: attempt.at in scenario.load_span),
        figures_by_caller(runs),
        _throttled_by_bin(runs),
    )


def _throttled_by_bin(runs: Sequence[Run]) -> Sequence[float]:
    counts = Counter(
        int(attempt.at // BIN_SECONDS) for run in runs for attempt in run.attempts if attempt.answer is Answer.THROTTLED
    )
    return [counts[number] / len(runs) for number in range(int(UNTIL_SECONDS // BIN_SECONDS))]
