"""What the operator decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diptych.service.guards.hosts import LOOPBACK


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`most_cost` and `most_cost_each`: predicted seconds of the engine that all and one owner may
    have waiting. `disk_share` and `disk_bytes`: what stays free, the larger of both. Times in
    seconds. `keys_required` holds in any case on an address that is not loopback's."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8188
    public_url: str = ""
    keys_required: bool = False
    per_user: str = "600/minute"
    per_address: str = "1200/minute"
    most_cost: float = 4 * 3600.0
    most_cost_each: float = 3600.0
    disk_share: float = 0.05
    disk_bytes: int = 1 << 30
    picture_seconds: int = 3600
    session_seconds: int = 30 * 24 * 3600
    longest_wait: float = 120.0
    heartbeat: float = 15.0
    undo: float = 30.0

    @property
    def needs_keys(self) -> bool:
        """Whether a request without a key is refused."""
        return self.keys_required or self.host.strip("[]") not in LOOPBACK
