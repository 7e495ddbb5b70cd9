"""`core.command`: plain values in Connect's own words."""

import dataclasses

import pytest
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession


def test_capabilities_are_spelled_as_connect_spells_them() -> None:
    """What is put into the body is the member's value, so it must be Connect's name."""
    assert [str(item) for item in Capability] == ["SILENT_MONITOR", "BARGE"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (MonitorCommand("i", "c", "u", (Capability.SILENT_MONITOR,), ""), "user_id"),
        (MonitoringSession("c", "", ""), "contact_id"),
    ],
)
def test_values_cannot_be_changed_after_they_were_checked(value: object, field: str) -> None:
    """A command that validation accepted stays as it was accepted, and so does Connect's answer."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, "other")
