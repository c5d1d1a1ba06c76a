"""The layers around the application, from the outermost inwards; their order is the point.

Headers are on every answer, also a refusal's. The host comes before anything that depends on the
request, the kind of content before its length, and the application last.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from diptych.service.guards.body_cap import BodyCap, Caps
from diptych.service.guards.hosts import HostGate
from diptych.service.guards.media import ContentGate, SecurityHeaders
from diptych.service.guards.problem import App


def guarded(
    app: App,
    *,
    hosts: Set[str],
    public_url: str = "",
    uploads: Set[str] = frozenset(),
    caps: Caps | None = None,
) -> App:
    """The application behind all gates. `hosts` from `allowed_hosts`; `uploads`: the paths that
    take forms of up to 20 MiB."""
    capped = BodyCap(app, replace(caps or Caps(), uploads=uploads))
    inner = HostGate(ContentGate(capped, uploads), hosts, public_url)
    return SecurityHeaders(inner)
