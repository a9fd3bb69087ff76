"""WebDataset shards: a tar of samples, a sample the members that share a key.

Every sample of a shard is accounted for: it is good, or it carries the reason why it is not. Nothing is
merged by guess and nothing is skipped in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from operators.images import IMAGE_EXTENSIONS
from pipeline.inputs import InputError, ShardRef, resolve_inputs
from pipeline.names import harmless, is_noise, name_problem, split_key
from pipeline.storage import StorageOptions, local_copy
from pipeline.tar import Member, Problem, scan, write_shard

__all__ = [
    "InputError",
    "MemberRef",
    "Problem",
    "Sample",
    "SampleRef",
    "ShardIndex",
    "ShardRef",
    "index_shard",
    "read_samples",
    "resolve_inputs",
    "write_shard",
]

log = logging.getLogger(__name__)

MAX_SAMPLE_BYTES = 2**30
"""A sample larger than this is quarantined unread: reading it could take the worker down with it."""

_SHOWN = 3  # names in a message
_INSTEAD = {
    "link": "write the file itself, with tar --dereference --hard-dereference",
    "sparse": "write it without --sparse",
    "device": "leave it out",
}


@dataclass(frozen=True)
class MemberRef:
    """Where a member's data lie in its shard. The name is text, harmless also as a file path."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class SampleRef:
    """A sample as the index knows it: key, readable members in shard order, and what is wrong with it."""

    key: str
    members: tuple[MemberRef, ...]
    problem: Problem | None = None

    @property
    def bytes(self) -> int:
        return sum(member.size for member in self.members)


@dataclass(frozen=True)
class ShardIndex:
    """All samples of a shard in order of appearance, each key once; problem: of the shard as a whole."""

    samples: tuple[SampleRef, ...]
    problem: Problem | None = None

    @property
    def problems(self) -> list[Problem]:
        """Everything that is wrong: with the shard, then with its samples."""
        found = [self.problem, *(sample.problem for sample in self.samples)]
        return [problem for problem in found if problem is not None]


@dataclass(frozen=True)
class Sample:
    """A good sample: key and (name, bytes) members in shard order, exactly one of them the photo."""

    key: str
    members: list[tuple[str, bytes]]

    @property
    def image(self) -> tuple[str, bytes]:
        """The photo: (member name, encoded bytes)."""
        data = dict(self.members)
        (name,) = image_names(list(data))
        return name, data[name]


def index_shard(path: Path, max_sample_bytes: int = MAX_SAMPLE_BYTES) -> ShardIndex:
    """Find the samples of the local tar `path` in one pass over its headers; never raises on content.

    A sample has a problem when a member of it is a link, a device, sparse, cut or wrongly named; when its key
    comes back after other samples or a member name repeats (all of it is then one problematic sample, for
    nobody can know which was meant); when it has no image or several; when it is too large. If the shard
    itself was cut or damaged, the sample before the cut has a problem too: its further members may be lost.
    """
    members, problem = scan(path)
    drafts: dict[str, _Draft] = {}
    latest = None
    for member in members:
        if member.kind == "folder" or is_noise(member.name):
            continue
        key = split_key(harmless(member.name))[0]
        draft = drafts.setdefault(key, _Draft(key))
        draft.add(member, returning=bool(draft.members) and latest is not draft)
        latest = draft
    if latest and problem and problem.code in {"shard.truncated", "shard.corrupt"}:
        what = f"the shard is cut or damaged in or behind {latest.key!r}, so members may be missing"
        latest.blame("sample.cut", f"{what}; transfer the shard again")
    if not drafts and problem is None:
        problem = Problem("shard.no_samples", "the archive holds no files; write it again")
    return ShardIndex(tuple(draft.finish(max_sample_bytes) for draft in drafts.values()), problem)


@dataclass
class _Draft:
    """A sample being gathered. The first blame stays."""

    key: str
    members: list[Member] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    problem: Problem | None = None

    def blame(self, code: str, message: str) -> None:
        self.problem = self.problem or Problem(code, message)

    def add(self, member: Member, returning: bool) -> None:
        name = harmless(member.name)
        if problem := name_problem(member.name):
            self.blame(problem.code, problem.message)
        if member.kind == "cut":
            self.blame("sample.cut", f"the data of {name!r} are cut; transfer the shard again")
        elif member.kind != "file":
            remedy = _INSTEAD.get(member.kind, "write it as one")
            self.blame(f"member.{member.kind}", f"{name!r} is not a regular file ({member.kind}); {remedy}")
        if returning:
            self.blame(
                "sample.duplicate_key",
                f"the key {self.key!r} comes back after other samples; sort the shard by name",
            )
        if member.name in self.names:
            self.blame("sample.duplicate_member", f"two members are called {name!r}; rename one")
        self.members.append(member)
        self.names.add(member.name)

    def finish(self, max_bytes: int) -> SampleRef:
        readable = [m for m in self.members if m.kind == "file"]
        total = sum(m.size for m in readable)
        if total > max_bytes:
            self.blame("sample.too_large", f"{self.key!r} has {total:,} bytes of at most {max_bytes:,}; leave it out")
            readable = []
        images = image_names([m.name for m in readable])
        if not images:
            self.blame("sample.no_image", f"no member of {self.key!r} is an image by its extension; add it")
        elif len(images) > 1:
            shown = ", ".join(images[:_SHOWN]) + (f" and {len(images) - _SHOWN:,} more" if images[_SHOWN:] else "")
            self.blame("sample.several_images", f"which is the photo of {self.key!r}? {shown}; keep one")
        refs = tuple(MemberRef(harmless(m.name), m.offset, m.size) for m in readable)
        return SampleRef(self.key, refs, self.problem)


def image_names(names: Sequence[str]) -> list[str]:
    """Which members could be the photo: those named KEY.jpg and the like; else those named KEY.any.jpg.

    So "a.mask.png" beside "a.jpg" is a sidecar, and alone it is the photo.
    """
    images = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS]
    plain = [name for name in images if "." not in split_key(name)[1]]
    return plain or images


def read_samples(url: str | Path, options: StorageOptions | None = None) -> Iterator[Sample]:
    """The good samples of one shard, in order; what is wrong with the others is logged as warnings.

    Raises StorageError when the shard cannot be fetched.
    """
    with local_copy(url, options) as path:
        index = index_shard(path)
        for problem in index.problems:
            log.warning("%s: %s (%s)", url, problem.message, problem.code)
        with open(path, "rb") as file:
            for sample in index.samples:
                if sample.problem is None:
                    members = []
                    for member in sample.members:
                        file.seek(member.offset)
                        members.append((member.name, file.read(member.size)))
                    yield Sample(sample.key, members)
