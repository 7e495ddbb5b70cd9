"""Sessions that have read AWS's own configuration, for the service and for its calls with BARGE.

boto3 decides all of it (profiles, environment, web identity, container credentials, endpoint overrides, FIPS, dual
stack, proxies, CA bundles), so it works as its users know it. What it says is the matter of `endpoint` and
`credentials`.
"""

import os
from typing import Final

import botocore.session
from botocore.credentials import AssumeRoleCredentialFetcher, CredentialResolver, DeferredRefreshableCredentials

# CloudTrail tells calls with BARGE by it from all the others of this service.
BARGE_SESSION_NAME: Final = "monitor-contact-barge"


def new_session() -> botocore.session.Session:
    """Return a session that has read the configuration anew. AWS_REGION works, as in every SDK but botocore."""
    session = botocore.session.Session()
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    return session


class _AssumedRole:
    """Puts a role in place of the credentials that a session has by itself: botocore's `credential_provider`."""

    def __init__(self, session: botocore.session.Session, role_arn: str) -> None:
        self._session = session
        self._own: CredentialResolver = session.get_component("credential_provider")
        self._role_arn = role_arn

    def load_credentials(self) -> DeferredRefreshableCredentials | None:
        """Return credentials that ask STS when they are first needed and before they end; None without own ones."""
        own = self._own.load_credentials()
        if own is None:
            return None
        fetcher = AssumeRoleCredentialFetcher(
            self._session.create_client, own, self._role_arn, extra_args={"RoleSessionName": BARGE_SESSION_NAME}
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def new_barge_session(role_arn: str) -> botocore.session.Session:
    """Return a session whose credentials are those of the role, assumed with the ones that it would have otherwise."""
    session = new_session()
    session.register_component("credential_provider", _AssumedRole(session, role_arn))
    return session
