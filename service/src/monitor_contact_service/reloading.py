"""What SIGHUP reads again: settings, access file, policies, certificates. Each takes effect whole or not at all.

Policies and certificates are followed without a signal too, by their own modules.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from .access import Access
from .configuration import read_checked_access
from .environment import read_settings
from .handler import Steps
from .keys import KeySets
from .quota import LocalQuota
from .settings import RELOADABLE, ConfigurationError, Settings
from .shared_quota import SharedQuota
from .telemetry import fields
from .tokens import TokenVerifier
from .variables import variable

_log = logging.getLogger(__name__)


class Reloading:
    """Reads again what can change without a restart.

    Args:
        settings: as the process was started with.
        tokens: the quota.
        steps: what follows.
        keys: of the issuers in the access file.
        verifier: by these keys.
        followed: reload policies and certificates.
        on_reload: is told what was read, "quota" or "access", and whether it took effect.
        on_access: is given a new access file.

    Attributes:
        settings: those in force: what needs a restart stays as it was at the start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tokens: LocalQuota | SharedQuota,
        steps: Steps,
        keys: KeySets,
        verifier: TokenVerifier,
        followed: Sequence[Callable[[], Awaitable[None]]],
        on_reload: Callable[[str, bool], None],
        on_access: Callable[[Access], None],
    ) -> None:
        self._on_access = on_access
        self.settings = settings
        self._tokens = tokens
        self._steps = steps
        self._keys = keys
        self._verifier = verifier
        self._followed = followed
        self._on_reload = on_reload
        self._task: asyncio.Task[None] | None = None

    def hang_up(self) -> None:
        """Begin to read everything again; the handler of SIGHUP."""
        self._task = asyncio.get_running_loop().create_task(self.reload(), name="reload")

    async def reload(self) -> None:
        """Read everything again."""
        self._reload_settings()
        self._reload_access()
        for follow in self._followed:
            await follow()

    def _reload_settings(self) -> None:
        try:
            new = read_settings()
        except ConfigurationError as error:
            # A warning, as for policies, certificates and keys: the service goes on with what it has.
            _log.warning("settings not reloaded: the old ones hold", extra=fields(problems=error.problems))
            self._on_reload("quota", False)  # noqa: FBT003 - the callback's only flag
            return
        self._tokens.change(new.quota, new.quota_replicas)
        self._steps.admission.change(new.limits, new.caller_weights)
        self.settings = self.settings.model_copy(update={name: getattr(new, name) for name in RELOADABLE})
        fixed = Settings.model_fields.keys() - RELOADABLE
        restart = sorted(variable(name) for name in fixed if getattr(new, name) != getattr(self.settings, name))
        _log.info("settings reloaded", extra=fields(rate=new.quota_rate, burst=new.quota_burst, needs_restart=restart))
        self._on_reload("quota", True)  # noqa: FBT003

    def _reload_access(self) -> None:
        if not self.settings.access_file:
            return
        try:
            access = read_checked_access(self.settings)
            self._keys.change(access.issuers)
        except ConfigurationError as error:
            _log.warning("access file not reloaded: the old one holds", extra=fields(problems=error.problems))
            self._on_reload("access", False)  # noqa: FBT003
            return
        self._verifier.change(access.issuers)
        self._steps.authenticator.change(access)
        self._steps.authorization.change(access=access)
        self._on_access(access)
        _log.info("access file reloaded", extra=fields(callers=len(access.callers)))
        self._on_reload("access", True)  # noqa: FBT003
