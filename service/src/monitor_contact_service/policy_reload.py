"""Follows the policy file: new content is taken whole, after its tests, or not at all.

What a policy file must be is `policy_files`' matter; who uses the policies is told by a callback.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from .core.policy import Policies
from .policy_files import LoadedPolicies, PolicyContent, compile_content, content_sha256, read_content
from .settings import ConfigurationError
from .telemetry import fields

_log = logging.getLogger(__name__)

# Choice: two small files. By content, not by time of change: mounted ones change by a swap of a link above them.
POLL_SECONDS: Final = 2.0


class PolicyReload:
    """Keeps the policies of a file fresh.

    Args:
        path: of the policy file.
        loaded: what was read from it at start.
        use: is given new policies.

    Attributes:
        on_change: is told about changed content: its sha256 ("" if it cannot be read), and whether it is used now.
    """

    def __init__(self, path: str, loaded: LoadedPolicies, *, use: Callable[[Policies], None]) -> None:
        self.on_change: Callable[[str, bool], None] = lambda _sha256, _accepted: None
        self._path = path
        self._use = use
        # What was last decided about, and what was last seen: content, or why there is none.
        self._decided: PolicyContent | tuple[str, ...] = loaded.content
        self._seen: PolicyContent | tuple[str, ...] = loaded.content
        self._reloading = asyncio.Lock()

    async def keep_fresh(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Follow the file, for ever."""
        while True:
            await sleep(POLL_SECONDS)
            await self.poll()

    async def poll(self) -> None:
        """Look once. Content counts when it is seen twice: half a file may be valid, and lack its forbids."""
        async with self._reloading:
            content = await asyncio.to_thread(self._look)
            unchanged, self._seen = content == self._seen, content
            if unchanged and content != self._decided:
                await self._decide(content)

    async def reload(self) -> None:
        """Look at the file and use what it has now: somebody says that it is whole."""
        async with self._reloading:
            self._seen = content = await asyncio.to_thread(self._look)
            if content != self._decided:
                await self._decide(content)

    def _look(self) -> PolicyContent | tuple[str, ...]:
        try:
            return read_content(self._path)
        except ConfigurationError as error:
            return tuple(error.problems)

    async def _decide(self, content: PolicyContent | tuple[str, ...]) -> None:
        self._decided = content
        if isinstance(content, tuple):
            self._reject("", content)
            return
        try:
            loaded = await asyncio.to_thread(compile_content, self._path, content)
        except ConfigurationError as error:
            self._reject(content_sha256(content), tuple(error.problems))
            return
        except Exception as error:  # noqa: BLE001 - the service must not end because of a file
            _log.exception("unexpected exception")
            self._reject(content_sha256(content), (f"{self._path}: {type(error).__name__}",))
            return
        self._use(loaded.policies)
        sha256 = loaded.policies.sha256
        _log.info(
            "policies reloaded", extra=fields(policies=len(loaded.policies.ids), cases=loaded.cases, sha256=sha256)
        )
        self.on_change(sha256, True)  # noqa: FBT003 - the callback's only flag

    def _reject(self, sha256: str, problems: tuple[str, ...]) -> None:
        _log.warning("policies not reloaded: the old ones hold", extra=fields(problems=problems, sha256=sha256))
        self.on_change(sha256, False)  # noqa: FBT003 - the callback's only flag
