"""Patterns among the paths to extract, and what they match in what a hostile container left.

As in a shell: ``*``, ``?`` and ``[...]`` match within one name, and no dot that a name begins with; ``**`` is
any number of folders, and as the last name all that is in a folder. Each match lands under its own name: a
file as that, a folder with all that is in it. No link is followed, and none is a match.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from light_run.engine.files.extract import (
    ArtifactFolder,
    ExtractError,
    Link,
    Parts,
    open_directory,
    take_file,
    take_tree,
)

# The maximum number of names that the patterns of a run are compared with; a folder may have millions.
MOST_TRIED = 250_000
# The same depth as for extraction.
_DEEPEST = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WILD = re.compile(r"[*?\[]")
_ANY_DEPTH = "**"

# The segments of a pattern that the next name may match.
States = frozenset[int]


class NameBudget:
    """The number of `names` that may still be compared."""

    def __init__(self, names: int = MOST_TRIED) -> None:
        self._most = self._left = names

    def spend(self, names: int) -> None:
        """Subtract `names`. Raises ExtractError if not enough are left."""
        self._left -= names
        if self._left < 0:
            raise ExtractError(
                f"there are more than {self._most} names to look at; the pattern must begin deeper, or be simpler"
            )


class Pattern:
    """A path with wildcards below the folder `top`, matched name by name."""

    def __init__(self, path: str, budget: NameBudget) -> None:
        names = path.strip("/").split("/")
        wild = next(index for index, name in enumerate(names) if _WILD.search(name))
        self.top = "/" + "/".join(names[:wild])
        self._names = list(_simplified(names[wild:]))
        self._regexes = [re.compile(fnmatch.translate(_shell(name))) for name in self._names]
        self._budget = budget
        self.start = self._with_skipped({0})

    @staticmethod
    def fits(path: str) -> bool:
        """Return True if `path` has wildcards."""
        return _WILD.search(path) is not None

    def step(self, states: States, name: bytes) -> States:
        """Return the states after matching `name` in each of `states`. Raises ExtractError."""
        self._budget.spend(len(states))
        text = os.fsdecode(name)
        return self._with_skipped(set(self._followers(states, text)))

    def matches(self, states: States) -> bool:
        """Return True if the whole pattern has matched."""
        return len(self._names) in states

    def map_path(self, parts: Parts) -> Parts | None:
        """Return the path in the artifacts for the path `parts` below `top`; None without a match in it."""
        if len(parts) > _DEEPEST:
            raise ExtractError(f"nested deeper than {_DEEPEST} directories")
        states = self.start
        for depth, name in enumerate(parts):
            states = self.step(states, name)
            if self.matches(states):
                return parts[depth:]
        return None

    def _followers(self, states: States, text: str) -> Iterator[int]:
        for state in states:
            if state == len(self._names):
                continue
            if text.startswith(".") and not self._names[state].startswith("."):
                continue
            if self._names[state] == _ANY_DEPTH:
                yield state
            elif self._regexes[state].match(text):
                yield state + 1

    def _with_skipped(self, states: set[int]) -> States:
        # "**" is no folder at all, too; there are no two of them in a row.
        skipped = {
            state + 1 for state in states if state < len(self._names) and self._names[state] == _ANY_DEPTH
        }
        return frozenset(states | skipped)


def take_matches(root: Path, parts: tuple[str, ...], pattern: Pattern, into: ArtifactFolder) -> None:
    """Extract what `pattern` matches below `parts` in `root`. Raises the same as `extract.from_folder`.

    In the order of paths, which is that of the engine's archive: of two that land under the same name the
    later one stays.
    """
    into.begin_entry()
    above = tuple(os.fsencode(name) for name in parts)
    top = os.open(root, _DIRECTORY)
    found = False
    try:
        ahead = [_Tried((), True, False, pattern.start)]
        while ahead:
            each = ahead.pop()
            try:
                if each.matched:
                    found = _take(top, above, each, into) or found
                else:
                    ahead += reversed(_below(top, above, each, pattern, into))
            except (FileNotFoundError, Link):
                # Replaced since it was listed. For the named folder itself, this is an error.
                if not each.names:
                    raise
    finally:
        os.close(top)
    if not found:
        raise FileNotFoundError(pattern.top)


class _Tried(NamedTuple):
    names: Parts
    is_folder: bool
    matched: bool
    states: States


def _take(top: int, above: Parts, each: _Tried, into: ArtifactFolder) -> bool:
    name = each.names[-1]
    if each.is_folder:
        take_tree(top, (*above, *each.names), into, (name,))
        return True
    directory = open_directory(top, (*above, *each.names[:-1]))
    try:
        return take_file(directory, name, (name,), into)
    finally:
        os.close(directory)


def _below(top: int, above: Parts, each: _Tried, pattern: Pattern, into: ArtifactFolder) -> list[_Tried]:
    # What matches in a folder, and folders that something below may match in, in the order of their names.
    if len(each.names) > _DEEPEST:
        raise ExtractError(f"nested deeper than {_DEEPEST} directories")
    directory = open_directory(top, above + each.names)
    try:
        return sorted(_tried(directory, pattern, each, into))
    finally:
        os.close(directory)


def _tried(directory: int, pattern: Pattern, above: _Tried, into: ArtifactFolder) -> Iterator[_Tried]:
    with os.scandir(directory) as entries:
        for entry in entries:
            into.check()
            name = os.fsencode(entry.name)
            reached = pattern.step(above.states, name)
            is_folder = entry.is_dir(follow_symlinks=False)
            matched = pattern.matches(reached)
            if (is_folder and reached) or (matched and entry.is_file(follow_symlinks=False)):
                yield _Tried((*above.names, name), is_folder, matched, reached)


def _simplified(names: Sequence[str]) -> Iterator[str]:
    # All that is in a folder is what is right in it, with all that is in that.
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name != _ANY_DEPTH:
            yield name
        elif last:
            yield "*"
        elif names[index + 1] != _ANY_DEPTH:
            yield name


def _shell(name: str) -> str:
    # Shells know "[^...]" as well as "[!...]".
    return name.replace("[^", "[!")
