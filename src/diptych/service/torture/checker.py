"""Reads a data folder after its server has ended, and judges it by what clients were told.

It shares no code with the store: plain SQL over the file, and hashes over the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TERMINAL = ("complete", "failed", "canceled")
# Why a job may have failed though nobody is wrong: it had the engine each time the engine died.
REASONS = ("poison", "attempts-spent")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 8  # characters of a hash


@dataclass(frozen=True, kw_only=True)
class Told:
    """A job that a client was promised. `same`: what an equal request has in common with it;
    `cancel`: the client has asked to give it up."""

    job_id: str
    key: str
    same: str
    cancel: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One line of the table: a promise, how many cases of it were looked at, what broke it."""

    promise: str
    cases: int
    broken: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Folder:
    """All that is looked at. `solo`: what of `same` -> SHA-256 of the bytes that it gives alone."""

    told: Sequence[Told]
    jobs: Mapping[str, sqlite3.Row]
    events: Mapping[str, Sequence[sqlite3.Row]]
    ties: Mapping[str, Sequence[str]]
    rows: Mapping[str, sqlite3.Row]
    files: Mapping[str, Path]
    keys: Mapping[str, Sequence[str]]
    solo: Mapping[str, str]
    sound: str


def check(data: Path, told: Sequence[Told], solo: Mapping[str, str]) -> list[Verdict]:
    """Each promise and what broke it. The server must have ended."""
    folder = _opened(data, told, solo)
    verdicts: list[Verdict] = []
    for promise, rule in RULES:
        found = list(rule(folder))
        broken = [one for one in found if one]
        verdicts.append(Verdict(promise=promise, cases=len(found), broken=broken))
    return verdicts


def _opened(data: Path, told: Sequence[Told], solo: Mapping[str, str]) -> Folder:
    root = data / "artifacts"
    files = {path.name: path for path in root.glob("*/*/*") if _SHA256.fullmatch(path.name)}
    with closing(sqlite3.connect(data / "jobs.db")) as connection:
        connection.row_factory = sqlite3.Row
        (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        jobs = {row["id"]: row for row in connection.execute("SELECT * FROM job")}
        events = _grouped(connection.execute("SELECT * FROM event ORDER BY job_id, seq"))
        ties = _grouped(connection.execute("SELECT * FROM job_artifact WHERE role <> 'input'"))
        rows = {row["sha256"]: row for row in connection.execute("SELECT * FROM artifact")}
        keys = {
            row["key"]: json.loads(row["answer"])
            for row in connection.execute("SELECT key, answer FROM idempotency")
        }
    return Folder(
        told=told, jobs=jobs, events=events, rows=rows, files=files, keys=keys, solo=solo,
        sound=sound,
        ties={job: [row["sha256"] for row in some] for job, some in ties.items()},
    )  # fmt: skip


def _grouped(found: Any) -> dict[str, list[sqlite3.Row]]:
    groups: dict[str, list[sqlite3.Row]] = {}
    for row in found:
        groups.setdefault(row["job_id"], []).append(row)
    return groups


# --- the promises: each gives a line for a case, empty where it holds -----------------------------


def _is_sound(folder: Folder) -> Iterator[str]:
    yield "" if folder.sound == "ok" else f"the database: {folder.sound}"


def _are_there(folder: Folder) -> Iterator[str]:
    for one in folder.told:
        yield "" if one.job_id in folder.jobs else f"{one.job_id} is lost"


def _were_asked_for(folder: Folder) -> Iterator[str]:
    asked = {one.job_id for one in folder.told}
    for job_id in folder.jobs:
        yield "" if job_id in asked else f"{job_id} was promised to nobody"


def _have_ended(folder: Folder) -> Iterator[str]:
    for job_id, row in folder.jobs.items():
        ends = [e["kind"] for e in folder.events.get(job_id, ()) if e["kind"] in TERMINAL]
        if row["status"] not in TERMINAL:
            yield f"{job_id} is {row['status']}"
        elif ends != [row["status"]]:
            yield f"{job_id} is {row['status']}, its history ends with {', '.join(ends) or 'none'}"
        else:
            yield ""


def _are_gapless(folder: Folder) -> Iterator[str]:
    for job_id, row in folder.jobs.items():
        found = [event["seq"] for event in folder.events.get(job_id, ())]
        whole = list(range(1, row["rev"] + 1))
        missing = sorted(set(whole) - set(found))
        yield "" if found == whole else f"{job_id} lacks event {missing or found}"


def _are_whole(folder: Folder) -> Iterator[str]:
    for job_id, shas in folder.ties.items():
        for sha256 in shas:
            path = folder.files.get(sha256)
            name = f"{job_id}: {sha256[:_SHOWN]}"
            if path is None:
                yield f"{name} is missing"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                yield f"{name} is altered"
            else:
                yield ""


def _are_as_alone(folder: Folder) -> Iterator[str]:
    for one in folder.told:
        row = folder.jobs.get(one.job_id)
        if row is None or row["status"] != "complete" or one.same not in folder.solo:
            continue
        alone = folder.solo[one.same]
        right = folder.ties.get(one.job_id, ()) == [alone]
        yield "" if right else f"{one.job_id} is not {alone[:_SHOWN]}, which it is alone"


def _were_canceled(folder: Folder) -> Iterator[str]:
    asked = {one.job_id for one in folder.told if one.cancel}
    for job_id, row in folder.jobs.items():
        if row["status"] == "canceled":
            yield "" if job_id in asked else f"{job_id} is canceled, and nobody asked"


def _failed_for(folder: Folder) -> Iterator[str]:
    for job_id, row in folder.jobs.items():
        if row["status"] == "failed":
            yield "" if row["error"] in REASONS else f"{job_id} failed: {row['error'] or 'why?'}"


def _are_one(folder: Folder) -> Iterator[str]:
    by_key: dict[str, set[str]] = {}
    for one in folder.told:
        by_key.setdefault(one.key, set()).add(one.job_id)
    for key, ids in by_key.items():
        kept = folder.keys.get(key)
        yield "" if kept == sorted(ids) else f"key {key} gave {sorted(ids)}, kept is {kept}"


def _have_files(folder: Folder) -> Iterator[str]:
    for sha256, row in folder.rows.items():
        if row["state"] == "live":
            yield "" if sha256 in folder.files else f"row {sha256[:_SHOWN]} has no file"


def _are_known(folder: Folder) -> Iterator[str]:
    """The sweeper deletes a file without a row after a day: one that lacks it must be younger than
    the oldest job, being what a crash left between file and commit."""
    since = min((row["created"] for row in folder.jobs.values()), default=0.0)
    for sha256, path in folder.files.items():
        young = path.stat().st_mtime >= since - 1.0
        yield "" if sha256 in folder.rows or young else f"file {sha256[:_SHOWN]} has no row"


RULES: Sequence[tuple[str, Callable[[Folder], Iterator[str]]]] = (
    ("the database is sound", _is_sound),
    ("every accepted job is there", _are_there),
    ("every job was asked for, once", _were_asked_for),
    ("every job has ended, exactly once", _have_ended),
    ("every history is without a gap", _are_gapless),
    ("every picture is whole", _are_whole),
    ("every picture is as if painted alone", _are_as_alone),
    ("canceled is what was asked to be", _were_canceled),
    ("failed has a reason that is legitimate", _failed_for),
    ("one key is one job", _are_one),
    ("every artifact's row has its file", _have_files),
    ("every old file has its row", _are_known),
)
