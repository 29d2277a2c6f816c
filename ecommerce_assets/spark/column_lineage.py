"""Column lineage: from which columns of which assets each column of a frame is computed. Use `trace` and `made_from`.

It is read from Spark's analysed plan, so it cannot differ from the code. The plan ends where Python computes something
(mapInArrow, collected rows, fitted models): there `made_from` declares the source columns, whose plans are followed.

Only this module uses a private attribute of PySpark, `DataFrame._jdf`: no public one gives the analysed plan, except as
text. Spark Connect and Sail do not have it, so lineage is unavailable there.
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
"""Output column → sources: a frame and the name of its column, or `asset.part` for a part of a model."""

_SOURCES = "ecommerce_assets.sources"
_FILE_METADATA = "_metadata"
_SEPARATOR = "\n"  # between the path and the column of a source; neither contains it

UNAVAILABLE = "Not recorded: Spark Connect does not give the analysed plan that column lineage is read from."


class LineageError(ValueError):
    """A declared source does not exist; the message has its name."""


def made_from(frame: DataFrame, origins: Origins) -> DataFrame:
    """Returns the same frame with the sources of columns that Python computed, which Spark's plan does not contain.

    Examples
    --------
    >>> made_from(scored, {"score": [(users, "features"), (model.itemFactors, "features")]})  # doctest: +SKIP

    Raises
    ------
    LineageError
        If a frame does not have the named column.
    """
    if is_remote():
        return frame
    marks = {name: {_SOURCES: sorted(sources)} for name, sources in _sources_of(origins).items()}
    return frame.select(
        *[F.col(name).alias(name, metadata=marks[name]) if name in marks else F.col(name) for name in frame.columns]
    )


def trace(frame: DataFrame, asset_of: Callable[[str], tuple[str, str] | None]) -> Lineage | None:
    """Returns the sources of every column of the frame; None over Spark Connect, see `UNAVAILABLE`.

    A column that a function computes has the sources of its arguments, conditions included (a window function also
    those of its window); `count(*)` has the grouping keys. Literals have none, and what Python computed has those that
    `made_from` declares. Filters and joins are not sources: they choose rows, not values.

    Parameters
    ----------
    asset_of
        Returns for the path of a file the asset's name and a prefix for its columns' names (such as `itemFactors.` in a
        model); None if it belongs to no asset.
    """
    if is_remote():
        return None
    plan = _Plan.of(frame)
    return {name: _named(plan.sources_of(key), asset_of) for name, key in plan.output}


def trace_origins(origins: Origins, asset_of: Callable[[str], tuple[str, str] | None]) -> Lineage | None:
    """Returns the same for what is not a frame, such as the parts of a model."""
    if is_remote():
        return None
    return {name: _named(sources, asset_of) for name, sources in _sources_of(origins).items()}


def check_sources(lineage: Lineage, columns_of: Callable[[str], Iterable[str] | None]) -> None:
    """Raises LineageError if a source is not a column of its asset. `columns_of` returns None for unknown assets."""
    for column, sources in lineage.items():
        for source in sources:
            asset, _, name = source.partition(".")
            columns = columns_of(asset)
            if columns is not None and name not in set(columns):
                raise LineageError(f"The source {source} of column {column} does not exist: {asset} has no {name}.")


def _sources_of(origins: Origins) -> dict[str, set[str]]:
    plans: dict[int, _Plan] = {}  # by frame: a plan is walked once
    sources: dict[str, set[str]] = {}
    for name, columns in origins.items():
        sources[name] = set()
        for origin in columns:
            if isinstance(origin, str):
                sources[name].add(origin)
                continue
            frame, column = origin
            if id(frame) not in plans:
                plans[id(frame)] = _Plan.of(frame)
            plan = plans[id(frame)]
            keys = dict(plan.output)
            if column not in keys:
                raise LineageError(f"The source {column} of column {name} is not among {', '.join(keys)}.")
            sources[name] |= plan.sources_of(keys[column])
    return sources


def _named(sources: Iterable[str], asset_of: Callable[[str], tuple[str, str] | None]) -> tuple[str, ...]:
    names = set()
    for source in sources:
        path, separator, column = source.rpartition(_SEPARATOR)
        if not separator:
            names.add(source)
        elif asset := asset_of(path):
            names.add(f"{asset[0]}.{asset[1]}{column}")
    return tuple(sorted(names))


Key = tuple[int, str | None]
"""An attribute by Spark's expression id; the whole of it, or one field of a struct."""


@dataclass
class _Plan:
    """An analysed plan.

    Attributes
    ----------
    output
        Name and expression id of each column.
    sources
        Columns of stored tables by expression id, each a path and a column.
    definitions
        Expressions that an attribute is computed from, by expression id.
    """

    output: list[tuple[str, int]]
    sources: dict[int, set[str]] = field(default_factory=dict)
    definitions: dict[int, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: DataFrame) -> _Plan:
        analysed = frame._jdf.queryExecution().analyzed()
        plan = cls(_attributes(analysed.output()))
        plan.add(analysed)
        return plan

    def add(self, node: Any) -> None:
        """Adds a node and all below it."""
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
            # A union's columns have the ids of its first child.
            for position, (_, key) in enumerate(_attributes(node.output())):
                self._define(key, [child.output().apply(position) for child in children])
        elif kind == "Generate":
            for _, key in _attributes(node.generatorOutput()):
                self._define(key, [node.generator()])

    def _define(self, key: int, expressions: Iterable[Any]) -> None:
        self.definitions.setdefault(key, []).extend(expressions)

    def _add_files(self, node: Any) -> None:
        paths = node.relation().location().rootPaths()
        # Not columns of the table: Spark's hidden column, and those that it reads from names of folders.
        excluded = {_FILE_METADATA, *node.relation().partitionSchema().fieldNames()}
        for name, key in _attributes(node.output()):
            # All paths of a relation belong to one asset.
            if paths.size() and name not in excluded:
                self.sources[key] = {f"{paths.apply(0).toString()}{_SEPARATOR}{name}"}

    def _add_alias(self, alias: Any, grouping: list[Any]) -> None:
        key, child, metadata = _id(alias), alias.child(), alias.metadata()
        if metadata.contains(_SOURCES):  # they replace those of the plan
            self.sources.setdefault(key, set()).update(metadata.getStringArray(_SOURCES))
            return
        counts_rows = grouping and not child.references().size() and not child.foldable()
        self._define(key, grouping if counts_rows else [child])

    def sources_of(self, attribute: int) -> set[str]:
        """Returns the columns of stored tables that an attribute is computed from."""
        start: Key = (attribute, None)
        sources: set[str] = set()
        waiting, seen = [start], {start}
        while waiting:
            current, part = waiting.pop()
            sources |= self.sources.get(current, set())
            new: set[Key] = set()
            for expression in self.definitions.get(current, ()):
                new |= _references(expression) if part is None else _references_of_field(expression, part)
            waiting.extend(new - seen)
            seen |= new
        return sources


def _references(expression: Any) -> set[Key]:
    """Returns the attributes of an expression; of a struct only the fields that it takes."""
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
    """Returns the attributes that one field of a struct-valued expression is computed from."""
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
        conditions = {key for branch in branches for key in _references(branch._1())}
        return conditions | {key for value in values for key in _references_of_field(value, name)}
    return _references(expression)


def _each(sequence: Any) -> Iterator[Any]:
    for position in range(sequence.size()):
        yield sequence.apply(position)


def _id(attribute: Any) -> int:
    return int(attribute.exprId().id())


def _attributes(output: Any) -> list[tuple[str, int]]:
    return [(str(attribute.name()), _id(attribute)) for attribute in _each(output)]
