"""The quota's promises, held over the service's own code in virtual time: what `make bench-quota` compares with boto3.

The same scenarios, loads and seeds; deterministic, so a bar that is missed here is missed by the code, not by chance.
"""

from collections.abc import Callable

import pytest
from contest import SERVICE, SHARED, contend
from replicas import redis_server
from scenarios import SCENARIOS, Contenders, Scenario

_WITH_BARS = [scenario for scenario in SCENARIOS if scenario.bars]
_REPLICAS = [scenario for scenario in SCENARIOS if scenario.contenders is Contenders.REPLICAS]
# How far replicas may be from one process.
_MOST_DIFFERENCE = 0.01


@pytest.mark.parametrize("scenario", _WITH_BARS, ids=lambda scenario: scenario.name)
def test_the_service_keeps_what_it_promises_of_the_quota(scenario: Scenario) -> None:
    """Every bar of every scenario: success of each group, and no 429 where none may come."""
    result = contend(scenario, SERVICE, scenario.seeds)
    for bar in scenario.bars:
        assert result.groups[bar.group].success >= bar.success, bar.title
        if bar.no_throttling:
            assert result.load.throttled_attempts == 0, bar.title


@pytest.mark.parametrize("scenario", _REPLICAS, ids=lambda scenario: scenario.name)
def test_replicas_over_redis_are_as_good_as_one_process(
    scenario: Scenario, require_tool: Callable[[str, str], str]
) -> None:
    """With 60 % of the callers on one of three: the same success, no 429, by the real script in a real Redis."""
    require_tool("redis-server", "that replicas over Redis are as good as one process")
    with redis_server():
        alone, together = (contend(scenario, policy, scenario.seeds) for policy in (SERVICE, SHARED))
    assert abs(alone.groups["all"].success - together.groups["all"].success) <= _MOST_DIFFERENCE
    assert together.load.throttled_attempts == 0


def test_no_promise_is_left_out() -> None:
    """The promises that were made are the bars of the scenarios."""
    promised = {"herd", "cron", "hog", "steady-1.8", "mixed-2.4", "errors-20", "halved"}
    assert {scenario.name for scenario in _WITH_BARS} == promised
    assert _REPLICAS
