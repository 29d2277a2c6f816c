"""Which columns of which assets each column of a frame was computed from, read off Spark's own analysed plan.

The plan is what Spark ran, so the lineage cannot drift from the code. Where Python stands in between (mapInArrow,
collected rows, fitted models) the plan ends; there the code that makes the frame says with `made_from` which columns of
which frames went in, and their plans are followed instead. The entry points are `trace` and `made_from`.

This is the only module that uses a private attribute of PySpark: `DataFrame._jdf`, the frame in Java. PySpark has no
public way to the analysed plan but its text. Spark Connect has no such frame, so lineage is unavailable there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, is_remote
from pyspark.sql import functions as F

Lineage = dict[str, tuple[str, ...]]
"""Output column → sources, each `asset.column` (the asset's name ends at the first dot), sorted."""

Origins = Mapping[str, Iterable[tuple[DataFrame, str] | str]]
"""Output column → what went in: a frame and the name of a column of it, or (a part of a model) `asset.part`."""

_SOURCES = "ecommerce_assets.sources"
_FILE_METADATA = "_metadata"
_SEPARATOR = "\n"  # between the path and the column of a source; in neither of them


UNAVAILABLE = "Not recorded: Spark Connect does not give the analysed plan that column lineage is read from."


class LineageError(ValueError):
    """A column names a source that does not exist; the message says which."""


def made_from(frame: DataFrame, origins: Origins) -> DataFrame:
    """The same frame, its columns marked with what Spark's plan cannot know: the columns that Python made them from.

    Examples
    --------
    >>> made_from(scored, {"score": [(users, "features"), (model.itemFactors, "features")]})  # doctest: +SKIP

    Raises
    ------
    LineageError
        Where a frame lacks the column that is named.
    """
    if is_remote():
        return frame
    marks = {name: {_SOURCES: sorted(found)} for name, found in _found(origins).items()}
    return frame.select(
        *[F.col(name).alias(name, metadata=marks[name]) if name in marks else F.col(name) for name in frame.columns]
    )


def trace(frame: DataFrame, asset_of: Callable[[str], tuple[str, str] | None]) -> Lineage | None:
    """The sources of every column of the frame; none for a literal or what Python made and did not mark.

    None over Spark Connect: see `UNAVAILABLE`.

    A column made by a function has the sources of its arguments, conditions included (a window function also those of
    its window); `count(*)` has the grouping keys. Filters and joins are no sources: they choose rows, not values.

    Parameters
    ----------
    asset_of
        For the path of a file that is read: the asset's name and a prefix for its columns' names (such as
        `itemFactors.` in a model), or None where it belongs to none.
    """
    if is_remote():
        return None
    plan = _Plan.of(frame)
    return {name: _named(plan.sources_of(key), asset_of) for name, key in plan.output}


def trace_origins(origins: Origins, asset_of: Callable[[str], tuple[str, str] | None]) -> Lineage | None:
    """The same for what is no frame, such as the parts of a model: by the columns that it was made from."""
    if is_remote():
        return None
    return {name: _named(found, asset_of) for name, found in _found(origins).items()}


def check_sources(lineage: Lineage, columns_of: Callable[[str], Iterable[str] | None]) -> None:
    """Raise LineageError where a source is no column of its asset; assets that `columns_of` does not know pass."""
    for column, sources in lineage.items():
        for source in sources:
            asset, _, name = source.partition(".")
            known = columns_of(asset)
            if known is not None and name not in set(known):
                raise LineageError(f"{column} is said to come from {source}, but {asset} has no column {name}")


def _found(origins: Origins) -> dict[str, set[str]]:
    plans: dict[int, _Plan] = {}
    found: dict[str, set[str]] = {}
    for name, columns in origins.items():
        found[name] = set()
        for origin in columns:
            if isinstance(origin, str):
                found[name].add(origin)
                continue
            frame, column = origin
            if id(frame) not in plans:  # walked once, however many columns it is the origin of
                plans[id(frame)] = _Plan.of(frame)
            plan = plans[id(frame)]
            keys = dict(plan.output)
            if column not in keys:
                raise LineageError(f"{name} is said to come from a column {column} of a frame with {', '.join(keys)}")
            found[name] |= plan.sources_of(keys[column])
    return found


def _named(sources: Iterable[str], asset_of: Callable[[str], tuple[str, str] | None]) -> tuple[str, ...]:
    named = set()
    for source in sources:
        path, separator, column = source.rpartition(_SEPARATOR)
        if not separator:
            named.add(source)
        elif (found := asset_of(path)) is not None:
            named.add(f"{found[0]}.{found[1]}{column}")
    return tuple(sorted(named))


Key = tuple[int, str | None]
"""An attribute by Spark's expression id, whole or one field of it (a struct's)."""


@dataclass
class _Plan:
    """What was learnt of a plan: for each attribute where its value comes from."""

    output: list[tuple[str, int]]
    origins: dict[int, set[str]] = field(default_factory=dict)
    definitions: dict[int, list[Any]] = field(default_factory=dict)
    others: dict[int, set[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: DataFrame) -> _Plan:
        """From the analysed plan of a frame."""
        analysed = frame._jdf.queryExecution().analyzed()
        plan = cls(_attributes(analysed.output()))
        plan.add(analysed)
        return plan

    def add(self, node: Any) -> None:
        """A node and all below it."""
        children = list(_each(node.children()))
        for child in children:
            self.add(child)
        kind = node.nodeName()
        if kind.startswith("LogicalRelation"):
            self._add_files(node)
        grouping = list(_each(node.groupingExpressions())) if kind == "Aggregate" else []
        for expression in _each(node.expressions()) if children else ():
            if expression.nodeName() == "Alias":
                self._add_alias(expression, grouping)
        if kind == "Union":
            # A union's columns carry the ids of its first child: what the others bring comes on top.
            for position, (_, key) in enumerate(_attributes(node.output())):
                own = {_id(child.output().apply(position)) for child in children}
                self.others.setdefault(key, set()).update(own - {key})
        elif kind == "Generate":
            for _, key in _attributes(node.generatorOutput()):
                self.definitions.setdefault(key, []).append(node.generator())

    def _add_files(self, node: Any) -> None:
        paths = node.relation().location().rootPaths()
        # Where a row lies is no column of the table: Spark's hidden column, and those that it reads off folders' names.
        places = {_FILE_METADATA, *node.relation().partitionSchema().fieldNames()}
        for name, key in _attributes(node.output()):
            # One asset's files are read together, so the first path says whose they are.
            if paths.size() and name not in places:
                self.origins[key] = {f"{paths.apply(0).toString()}{_SEPARATOR}{name}"}

    def _add_alias(self, alias: Any, grouping: list[Any]) -> None:
        key, child = _id(alias), alias.child()
        metadata = alias.metadata()
        if metadata.contains(_SOURCES):  # which are all that there are
            self.origins.setdefault(key, set()).update(metadata.getStringArray(_SOURCES))
            return
        counts_rows = grouping and not child.references().size() and not child.foldable()
        self.definitions.setdefault(key, []).extend(grouping if counts_rows else [child])

    def sources_of(self, attribute: int) -> set[str]:
        """Columns of stored tables that an attribute is computed from, whole or by a field."""
        found: set[str] = set()
        start: Key = (attribute, None)
        waiting, seen = [start], {start}
        while waiting:
            current, part = waiting.pop()
            found |= self.origins.get(current, set())
            new: set[Key] = {(other, part) for other in self.others.get(current, ())}
            for expression in self.definitions.get(current, ()):
                new |= _references(expression) if part is None else _references_of_field(expression, part)
            waiting.extend(new - seen)
            seen |= new
        return found


def _references(expression: Any) -> set[Key]:
    """What an expression looks at; of a struct only the fields that it takes out."""
    attributes = list(_each(expression.references().toSeq()))
    if not any(attribute.dataType().typeName() == "struct" for attribute in attributes):
        return {(_id(attribute), None) for attribute in attributes}
    kind = expression.nodeName()
    if kind == "AttributeReference":
        return {(_id(expression), None)}
    if kind == "GetStructField":
        return _references_of_field(expression.child(), str(expression.extractFieldName()))
    return {key for child in _each(expression.children()) for key in _references(child)}


def _references_of_field(expression: Any, name: str) -> set[Key]:
    """What one field of a struct-valued expression looks at."""
    kind = expression.nodeName()
    if kind == "AttributeReference":
        return {(_id(expression), name)}
    if kind == "CreateNamedStruct":
        fields = dict(zip((str(n) for n in _each(expression.names())), _each(expression.valExprs()), strict=True))
        return _references(fields[name])
    if kind == "CaseWhen":
        branches = list(_each(expression.branches()))
        values = [branch._2() for branch in branches]
        if expression.elseValue().isDefined():
            values.append(expression.elseValue().get())
        chosen_by = {key for branch in branches for key in _references(branch._1())}
        return chosen_by | {key for value in values for key in _references_of_field(value, name)}
    return _references(expression)


def _each(sequence: Any) -> Iterator[Any]:
    for position in range(sequence.size()):
        yield sequence.apply(position)


def _id(attribute: Any) -> int:
    return int(attribute.exprId().id())


def _attributes(output: Any) -> list[tuple[str, int]]:
    return [(str(attribute.name()), _id(attribute)) for attribute in _each(output)]
