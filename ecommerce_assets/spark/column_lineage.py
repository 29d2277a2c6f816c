"""Column lineage: from which columns of which assets each column of a frame is computed. Use `trace` and `made_from`.

It is read from Spark's analysed plan, so it cannot differ from the code. The plan ends where Python computes something
(mapInArrow, collected rows, fitted models): there `made_from` declares the source columns, whose plans are followed.

Only this module uses a private attribute of PySpark, `DataFrame._jdf`: no public one gives the analysed plan, except as
text. Spark Connect and Sail do not have it, so lineage is unavailable there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from pyspark.sql import DataFrame, is_remote
from pyspark.sql import functions as F

Lineage = dict[str, tuple[str, ...]]
"""Output column → sources, each `asset.column` (the asset's name ends at the first dot), sorted."""

Origins = Mapping[str, Collection[tuple[DataFrame, str] | str]]
"""Output column → sources: a frame and the name of its column, or `asset.part` for a part of a model."""

_SOURCES = "ecommerce_assets.sources"
_SEPARATOR = "\n"  # between the path and the column of a source; neither contains it

UNAVAILABLE = "Not recorded: Spark Connect does not give the analysed plan that column lineage is read from."


def made_from(frame: DataFrame, origins: Origins) -> DataFrame:
    """Returns the same frame with the sources of columns that Python computed, which Spark's plan does not contain.

    Examples
    --------
    >>> made_from(scored, {"score": [(users, "features"), (model.itemFactors, "features")]})  # doctest: +SKIP

    Raises
    ------
    KeyError
        If a frame does not have the named column.
    """
    if is_remote():
        return frame
    marks = {name: {_SOURCES: sorted(sources)} for name, sources in _declared(origins).items()}
    return frame.withColumns({name: F.col(name).alias(name, metadata=mark) for name, mark in marks.items()})


def trace(made: DataFrame | Origins, asset_of: Callable[[str], tuple[str, str] | None]) -> Lineage | None:
    """Returns the sources of every column of a frame; None over Spark Connect, see `UNAVAILABLE`.

    A column that a function computes has the sources of its arguments, conditions included (a window function also
    those of its window); `count(*)` has the grouping keys, and a field of a struct has the sources of the struct.
    Literals have none, and what Python computed has those that `made_from` declares. Filters and joins are not sources:
    they choose rows, not values.

    Parameters
    ----------
    made
        The frame; or declared sources, for what is not a frame, such as the parts of a model.
    asset_of
        Returns for the path of a file the asset's name and a prefix for its columns' names (such as `itemFactors.` in a
        model); None if it belongs to no asset.
    """
    if is_remote():
        return None
    sources = _declared(made) if isinstance(made, Mapping) else _columns(made)
    return {name: _named(files, asset_of) for name, files in sources.items()}


def _named(sources: Iterable[str], asset_of: Callable[[str], tuple[str, str] | None]) -> tuple[str, ...]:
    names = set()
    for source in sources:
        path, separator, column = source.rpartition(_SEPARATOR)
        if not separator:
            names.add(source)
        elif asset := asset_of(path):
            names.add(f"{asset[0]}.{asset[1]}{column}")
    return tuple(sorted(names))


def _declared(origins: Origins) -> dict[str, set[str]]:
    """Returns the sources of each column: `asset.part`, or the path and the column of a file."""
    frames = {origin[0] for columns in origins.values() for origin in columns if not isinstance(origin, str)}
    plans = {frame: _columns(frame) for frame in frames}  # a plan is read once
    return {
        name: {
            source
            for origin in columns
            for source in ([origin] if isinstance(origin, str) else plans[origin[0]][origin[1]])
        }
        for name, columns in origins.items()
    }


def _columns(frame: DataFrame) -> dict[str, set[str]]:
    """Returns the same for the columns of a frame."""
    plan = frame._jdf.queryExecution().analyzed()
    sources: dict[int, set[str]] = {}
    _add_node(plan, sources)
    return {str(column.name()): _of([column], sources) for column in _each(plan.output())}


def _add_node(node: Any, sources: dict[int, set[str]]) -> None:
    """Adds the sources of all columns that a node and those below it define, by Spark's expression id."""

    def add(column: Any, new: set[str]) -> None:
        sources.setdefault(_id(column), set()).update(new)

    children = list(_each(node.children()))
    for child in children:
        _add_node(child, sources)
    kind = node.nodeName()
    if kind.startswith("LogicalRelation"):
        paths = node.relation().location().rootPaths()
        for column in _each(node.output()) if paths.size() else ():
            if column.name() != "_metadata":  # Spark's hidden column
                # All paths of a relation belong to one asset.
                add(column, {f"{paths.apply(0).toString()}{_SEPARATOR}{column.name()}"})
    elif kind == "Union":
        # Its columns have the ids of its first child.
        for position, column in enumerate(_each(node.output())):
            add(column, _of([child.output().apply(position) for child in children], sources))
    elif kind == "Generate":
        for column in _each(node.generatorOutput()):
            add(column, _of(_references(node.generator()), sources))
    for alias in _each(node.expressions()):
        if alias.nodeName() != "Alias":
            continue
        references = _references(alias.child())
        if alias.metadata().contains(_SOURCES):  # they replace those of the plan
            add(alias, set(alias.metadata().getStringArray(_SOURCES)))
        elif kind == "Aggregate" and not references and not alias.child().foldable():  # count(*)
            for key in _each(node.groupingExpressions()):
                add(alias, _of(_references(key), sources))
        else:
            add(alias, _of(references, sources))


def _references(expression: Any) -> list[Any]:
    return list(_each(expression.references().toSeq()))


def _of(columns: Iterable[Any], sources: Mapping[int, set[str]]) -> set[str]:
    return {source for column in columns for source in sources.get(_id(column), ())}


def _id(column: Any) -> int:
    return int(column.exprId().id())


def _each(sequence: Any) -> Iterator[Any]:
    for position in range(sequence.size()):
        yield sequence.apply(position)
