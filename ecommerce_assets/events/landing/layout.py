"""The options that describe a shop's files (`Layout`), translated into one SQL expression per event column."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.parsing import identifier, literal
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS

CONTENT_DIGITS = 16
"""Hexadecimal digits of the hash in the name of a landed file."""

FILE_DIGITS = 10
"""Those of them that depend on the source file only; the others depend on the options too."""

DEFAULT_COLUMNS = ("price", "event_type", *(name for name in OPTIONAL_COLUMNS if name != "event_id"))
"""Columns that `--default` can fill: all but those that identify an event."""

_OTHER_NAMES = {
    "event_time": ("timestamp", "time", "datetime", "date", "ts", "createdat", "invoicedate", "eventdate", "orderdate"),
    "event_type": ("event", "eventname", "action", "behavior", "behaviortype", "type"),
    "product_id": ("itemid", "item", "product", "sku", "stockcode", "productcode", "article", "asin"),
    "price": ("amount", "unitprice", "itemprice"),
    "user_id": ("visitorid", "customerid", "clientid", "visitor", "user", "uid", "customer"),
}
"""Names that other shops use for the required columns, in lower case without punctuation. They are only suggested."""


@dataclass(frozen=True)
class Columns:
    """The event columns of one file.

    Attributes
    ----------
    sql
        SQL expression over the columns of the file for each event column that the file or an option provides.
    absent
        Optional event columns that become null, without `event_id`, which few shops have.
    ignored
        Columns of the file that are not event columns and that no option uses.
    """

    sql: Mapping[str, str]
    absent: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """How the files of a shop map to event columns. The default is the layout of the REES46 logs.

    Attributes
    ----------
    compute
        SQL expression over the columns of the file, by event column.
    where
        SQL conditions; only rows that meet all of them are landed.
    columns
        Event column by column of the file.
    events
        Event type by name of the event in the file.
    defaults
        Values of event columns that the file lacks.
    header
        Column names of CSV files without a header.
    encoding
        Encoding of CSV files, `utf-8` or `latin-1`.
    """

    compute: Mapping[str, str] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    encoding: str = "utf-8"

    @classmethod
    def parse(
        cls,
        compute: Iterable[str] = (),
        where: Iterable[str] = (),
        columns: Iterable[str] = (),
        events: Iterable[str] = (),
        defaults: Iterable[str] = (),
        header: str | None = None,
        encoding: str = "utf-8",
    ) -> Layout:
        """Returns the layout for the options of the command line, such as `columns=["sku=product_id"]`.

        Raises
        ------
        LandingError
            An option cannot be read, or names an unknown column or event type.
        """
        layout = cls(
            _pairs("--compute", "NAME=SQL", compute),
            tuple(where),
            _pairs("--map", "SOURCE=TARGET", columns),
            _pairs("--map-event", "SOURCE=TARGET", events),
            _pairs("--default", "COLUMN=VALUE", defaults),
            tuple(name.strip() for name in header.split(",")) if header else (),
            encoding,
        )
        for name, sql in layout.compute.items():
            _require_one_of(_option("--compute", f"{name}={sql}"), name, EVENTS.names, "event column")
        targets = [*layout.compute, *layout.columns.values()]
        for source, target in layout.columns.items():
            _require_one_of(_option("--map", f"{source}={target}"), target, EVENTS.names, "event column")
        for target in EVENTS.names:
            if targets.count(target) > 1:
                raise LandingError(
                    f"{target} is set by {targets.count(target)} options: keep one --map or --compute for it."
                )
        for source, target in layout.events.items():
            _require_one_of(_option("--map-event", f"{source}={target}"), target, EVENT_TYPES, "event type")
        for column, value in layout.defaults.items():
            option = _option("--default", f"{column}={value}")
            _require_one_of(option, column, DEFAULT_COLUMNS, "column for --default")
            if column == "event_type":
                _require_one_of(option, value, EVENT_TYPES, "event type")
            if column == "price" and not re.fullmatch(r"\d{1,12}(\.\d*)?", value, re.ASCII):
                raise LandingError(f"{option}: a price must be a number such as 0 or 9.99, got {value!r}.")
        return layout

    def match(self, path: Path, names: Sequence[str]) -> Columns:
        """Returns the event columns of a file.

        Parameters
        ----------
        names
            Columns of the file.

        Raises
        ------
        LandingError
            The file lacks a mapped or a required column, or has two columns of one name.
        """
        for source, target in self.columns.items():
            if source not in names:
                raise LandingError(
                    f"{path} has no column {source}; its columns are {shown(names)}. Correct "
                    f"{_option('--map', f'{source}={target}')}."
                )
            if target in names and target != source:
                raise LandingError(
                    f"{path} already has a column {target}. To replace it by {source}, use "
                    f"{_option('--compute', f'{target}={identifier(source)}')}."
                )
        # Later ones win: --compute and --map over a column of the file, that over --default.
        sql = {name: literal(value) for name, value in self.defaults.items()}
        sql |= {name: identifier(name) for name in EVENTS.names if name in names}
        sql |= {target: identifier(source) for source, target in self.columns.items()}
        sql |= self.compute
        used = " ".join([*sql.values(), *self.where]).lower()
        for name in dict.fromkeys(map(str.lower, names)):
            alike = [other for other in names if other.lower() == name]
            if len(alike) > 1 and name and name in used:  # SQL ignores case
                raise LandingError(f"{path} has the columns {shown(alike, ' and ')}: rename or remove one of them.")
        self._require_columns(path, names, sql)
        if self.events and "event_type" in sql:
            text = f"CAST(({sql['event_type']}) AS VARCHAR)"
            cases = " ".join(f"WHEN {literal(name)} THEN {literal(kind)}" for name, kind in self.events.items())
            sql["event_type"] = f"CASE trim({text}, ' \t\r\n') {cases} ELSE {text} END"
        expressions = " ".join([*self.compute.values(), *self.where]).lower()
        return Columns(
            sql={name: sql[name] for name in EVENTS.names if name in sql},
            absent=tuple(name for name in OPTIONAL_COLUMNS if name not in sql and name != "event_id"),
            ignored=tuple(
                name or "(no name)"
                for name in names
                if name not in EVENTS.names and name not in self.columns and not (name and name.lower() in expressions)
            ),
        )

    def _require_columns(self, path: Path, names: Sequence[str], provided: Mapping[str, str]) -> None:
        missing = [name for name in REQUIRED_COLUMNS if name not in provided]
        if not missing:
            return
        unused = [name for name in names if name not in self.columns and name not in EVENTS.names]
        options, open_columns = [], []
        for name in missing:
            if other := _suggest(name, unused):
                options.append(_option("--map", f"{other}={name}"))
            elif name == "price":
                options.append("--default price=0")
            elif name == "event_type":
                options.append("--default event_type=purchase")
            else:
                open_columns.append(name)
        remedies = [f"add {' '.join(options)}"] if options else []
        if open_columns:
            remedies.append(f"set {' and '.join(open_columns)} with --map or --compute")
        word = "columns" if len(missing) > 1 else "column"
        columns = f"{word} {', '.join(missing)}; it has {shown(names)}"
        raise LandingError(f"{path} lacks the {columns}. To land it, {', and '.join(remedies)}.")

    def content(self, sha256: str, id_type: str) -> str:
        """Returns the hash that names the landed files of a source: digits of the source, then of source and options.

        Parameters
        ----------
        sha256
            SHA-256 of the source, in hexadecimal digits.
        """
        options = [sorted(pairs.items()) for pairs in (self.compute, self.columns, self.events, self.defaults)]
        given = [*options, self.where, self.header, self.encoding, id_type]
        if self == Layout() and id_type == "bigint":
            return sha256[:CONTENT_DIGITS]
        digest = hashlib.sha256(f"{sha256} {given}".encode()).hexdigest()
        return sha256[:FILE_DIGITS] + digest[: CONTENT_DIGITS - FILE_DIGITS]


def _option(option: str, text: str) -> str:
    """An option quoted for a shell."""
    return f"{option}{'=' if text.startswith('-') else ' '}{shlex.quote(text)}"


def shown(names: Sequence[str], between: str = ", ") -> str:
    """Returns names of columns for a message on one line: line ends are escaped, empty names are `(no name)`."""
    return between.join(name.replace("\n", "\\n").replace("\r", "\\r") or "(no name)" for name in names)


def _pairs(option: str, form: str, texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        # Names of the file, values and SQL may contain "="; names of event columns do not.
        left, equals, right = text.rpartition("=") if form.startswith("SOURCE") else text.partition("=")
        left, right = left.strip(), right.strip()
        if not (left and equals and right):
            raise LandingError(f"{_option(option, text)} is not of the form {form}.")
        if pairs.setdefault(left, right) != right:
            raise LandingError(f"{option} {left} is given twice, as {pairs[left]} and as {right}: keep one of them.")
    return pairs


def _require_one_of(option: str, word: str, allowed: Sequence[str], kind: str) -> None:
    if word not in allowed:
        raise LandingError(f"{option}: {word} is not a valid {kind}. Use one of {', '.join(allowed)}.")


def _suggest(wanted: str, names: Sequence[str]) -> str | None:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in names}
    known = [plain[word] for word in (wanted.replace("_", ""), *_OTHER_NAMES[wanted]) if word in plain]
    close = [plain[word] for word in get_close_matches(wanted.replace("_", ""), plain, n=1, cutoff=0.8)]
    return next(iter([*known, *close]), None)
