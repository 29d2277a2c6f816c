"""A shop's own layout: what its columns and events are called, and what stands for columns that it does not have.

The options `--map`, `--map-event` and `--default` as data, checked, and matched with a file's columns. How values are
rewritten in a file is the business of relations.py.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS

CONTENT_DIGITS = 16
"""Hexadecimal digits that name what was landed; no two files of a shop share them by chance."""

FILE_DIGITS = 10
"""Of these, the digits that a file has whatever the layout, so that the same file with another layout is found."""

DEFAULT_COLUMNS = ("price", "event_type", *OPTIONAL_COLUMNS)
"""The columns that `--default` fills. A time, a user or a product that stands for all of them says nothing."""

_OTHER_NAMES = {
    "event_time": ("timestamp", "time", "datetime", "date", "ts", "created_at"),
    "event_type": ("event", "event_name", "action", "behavior", "type"),
    "product_id": ("item_id", "item", "product", "sku"),
    "price": ("amount", "unit_price", "item_price"),
    "user_id": ("visitor_id", "customer_id", "client_id", "visitor", "user", "uid"),
}
"""What other shops call the required columns; only to be suggested, never taken by itself."""

_PRICE = r"\d{1,12}(\.\d*)?"
_CATEGORY_ID = r"-?\d{1,19}"


@dataclass(frozen=True)
class Columns:
    """A file's columns, matched. `sources`: the file's column for each event column. `defaults`: the value for each
    column that the file does not have. `absent`: what is neither; `dropped`: the file's other columns."""

    sources: Mapping[str, str]
    defaults: Mapping[str, str]
    absent: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """`columns`: event column for each of the shop's; `events`: event type for each of the shop's names; `defaults`:
    value for each event column that a file may lack. The empty layout is the one of the REES46 logs."""

    columns: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, columns: Iterable[str] = (), events: Iterable[str] = (), defaults: Iterable[str] = ()) -> "Layout":
        """From the texts `SOURCE=TARGET` and `COLUMN=VALUE` of the command line.

        Raises LandingError: names the option and what it takes.
        """
        layout = cls(
            _pairs("--map", "SOURCE=TARGET", columns),
            _pairs("--map-event", "SOURCE=TARGET", events),
            _pairs("--default", "COLUMN=VALUE", defaults),
        )
        targets = list(layout.columns.values())
        for source, target in layout.columns.items():
            _require_one_of(f"--map {source}={target}", target, EVENTS.names, "event column")
            if targets.count(target) > 1:
                both = " and ".join(f"--map {name}={target}" for name, to in layout.columns.items() if to == target)
                raise LandingError(f"{both} name the same column; a column is made from one column only.")
        for source, target in layout.events.items():
            _require_one_of(f"--map-event {source}={target}", target, EVENT_TYPES, "event type")
        for column, value in layout.defaults.items():
            _require_default(column, value)
        return layout

    def match(self, path: Path, names: Sequence[str]) -> Columns:
        """Find the event columns among a file's columns.

        Raises LandingError: a mapped column that the file lacks, two columns for one, a required column missing.
        """
        for source, target in self.columns.items():
            if source not in names:
                raise LandingError(f"{path} has no column {source} for --map {source}={target}; it has {_list(names)}.")
        found: dict[str, str] = {}
        for name in names:
            target = self.columns.get(name, name)
            if target not in EVENTS.names:
                continue
            if target in found and found[target] == name:
                raise LandingError(f"{path} has more than one column called {name}.")
            if target in found:
                source = next(name for name, to in self.columns.items() if to == target)
                raise LandingError(f"{path} has a column {target} already, so that --map {source}={target} is refused.")
            found[target] = name
        defaults = {name: value for name, value in self.defaults.items() if name not in found}
        self._require_columns(path, names, {*found, *defaults})
        return Columns(
            sources={name: found[name] for name in EVENTS.names if name in found},
            defaults={name: defaults[name] for name in EVENTS.names if name in defaults},
            absent=tuple(name for name in OPTIONAL_COLUMNS if name not in found and name not in defaults),
            dropped=tuple(name or "(no name)" for name in names if name not in found.values()),
        )

    def _require_columns(self, path: Path, names: Sequence[str], there: set[str]) -> None:
        missing = [name for name in REQUIRED_COLUMNS if name not in there]
        if not missing:
            return
        unused = [name for name in names if name not in self.columns and name not in EVENTS.names]
        remedies = []
        for name in missing:
            if other := _suggest(name, unused):
                remedies.append(f"--map {other}={name}")
            elif name == "price":
                remedies.append("--default price=0")
            elif unused:
                remedies.append(f"--map COLUMN={name}")
        remedy = f": add {' '.join(remedies)}" if remedies else ""
        word = "columns" if len(missing) > 1 else "column"
        raise LandingError(f"{path} lacks the {word} {', '.join(missing)}; it has {_list(names)}{remedy}.")

    def content(self, sha256: str, defaults: Mapping[str, str]) -> str:
        """The name of what lands from a file with this layout: digits for the file, then digits for file and layout.

        `defaults` are those that the file has use for: others change nothing.
        """
        options = [sorted(pairs.items()) for pairs in (self.columns, self.events, defaults)]
        if not any(options):
            return sha256[:CONTENT_DIGITS]
        digest = hashlib.sha256(f"{sha256} {options}".encode()).hexdigest()
        return sha256[:FILE_DIGITS] + digest[: CONTENT_DIGITS - FILE_DIGITS]


def _pairs(option: str, form: str, texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        # A shop's names may hold a "=", ours do not; a value may too.
        left, equals, right = text.partition("=") if form.startswith("COLUMN") else text.rpartition("=")
        left, right = left.strip(), right.strip()
        if not (left and equals and right):
            raise LandingError(f"{option} {text} cannot be read: it takes {form}, both not empty.")
        if pairs.setdefault(left, right) != right:
            raise LandingError(f"{option} {left} is given twice, as {pairs[left]} and as {right}.")
    return pairs


def _require_one_of(option: str, word: str, allowed: Sequence[str], kind: str) -> None:
    if word not in allowed:
        raise LandingError(f"{option}: {word} is no {kind}; there are {', '.join(allowed)}.")


def _require_default(column: str, value: str) -> None:
    option = f"--default {column}={value}"
    if column not in EVENTS.names:
        _require_one_of(option, column, DEFAULT_COLUMNS, "event column")
    if column not in DEFAULT_COLUMNS:
        raise LandingError(f"{option}: {column} takes no default; there may be one for {', '.join(DEFAULT_COLUMNS)}.")
    if column == "event_type":
        _require_one_of(option, value, EVENT_TYPES, "event type")
    if column == "price" and not re.fullmatch(_PRICE, value, re.ASCII):
        raise LandingError(f"{option}: {value} is no price; it takes a number such as 0 or 9.99.")
    if column == "category_id" and not (re.fullmatch(_CATEGORY_ID, value, re.ASCII) and abs(int(value)) < 2**63):
        raise LandingError(f"{option}: {value} is no category_id; it takes a whole number of 64 bits.")


def _suggest(wanted: str, names: Sequence[str]) -> str | None:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names}
    others = [wanted, *_OTHER_NAMES[wanted]]
    known = [plain[word] for other in others if (word := other.replace("_", "")) in plain]
    close = [plain[word] for word in get_close_matches(wanted.replace("_", ""), plain, n=1, cutoff=0.8)]
    return next(iter([*known, *close]), None)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
