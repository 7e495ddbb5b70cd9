"""Signs one request with botocore's SigV4, the day's signing key cached. Leaves sending and answers to `connect`."""

import hmac

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials


class DayKeySigner(SigV4Auth):
    """botocore's SigV4Auth with four HMACs less per call: its signing key changes with day and credentials only.

    The date comes from the request's own timestamp, so the scope and `x-amz-date` are one reading of the clock.
    """

    def __init__(self, credentials: ReadOnlyCredentials, service_name: str, region_name: str) -> None:
        super().__init__(credentials, service_name, region_name)
        self.signed_with = credentials
        self._scope = (region_name, service_name, "aws4_request")
        self._day_key: tuple[str, bytes] = ("", b"")

    def signature(self, string_to_sign: str, request: AWSRequest) -> str:
        """Return the hexadecimal signature."""
        day = request.context["timestamp"][:8]
        if self._day_key[0] != day:
            self._day_key = (day, self._derive(day))
        return hmac.new(self._day_key[1], string_to_sign.encode(), "sha256").hexdigest()

    def _derive(self, day: str) -> bytes:
        key = f"AWS4{self.signed_with.secret_key}".encode()
        for part in (day, *self._scope):
            key = hmac.digest(key, part.encode(), "sha256")
        return key
