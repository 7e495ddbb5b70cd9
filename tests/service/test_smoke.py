"""The whole path once, in this process."""

import harness
from harness import Service
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest


async def test_a_supervisor_is_put_into_monitoring(service: Service) -> None:
    """A valid request reaches the simulated Connect and comes back with the session's new contact id."""
    request = MonitorContactRequest(
        instance_id=harness.INSTANCE_ID, contact_id=harness.CONTACT_ID, user_id=harness.USER_ID
    )
    response = await service.stub.MonitorContact(request, timeout=5)
    assert response.contact_id not in {"", harness.CONTACT_ID}
    assert response.contact_arn.endswith(response.contact_id)
