"""Exports the customers that match a condition. `audience` is the entry point.

The condition is an SQL expression over the columns of `TABLES`. DuckDB evaluates it in a connection that can only read
these tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import duckdb
import pyarrow as pa

from ecommerce_assets.delivery.files import OPTIONS, without_formula
from ecommerce_assets.events.landing.staging import one_line
from ecommerce_assets.events.parsing import connect, identifier, literal
from ecommerce_assets.lookup.tables import Tables, UnknownIdError, typed
from ecommerce_assets.recommendation.als_model import SavedModel
from ecommerce_assets.recommendation.interest import Interest
from ecommerce_assets.secret import has_password
from ecommerce_assets.segmentation.customer_value import tested_in_words
from ecommerce_assets.storage import delta
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import MODEL_FOLDER
from ecommerce_assets.storage.version import Version

USERS, GROUPS, PREDICTED = "segmented_users", "customer_groups", "customer_value"
TABLES = (USERS, GROUPS, PREDICTED)
"""The tables with the columns of a condition. If several tables have a column, the first one is used."""

ALIASES = {"group": "customer_group"}

PRODUCT, CATEGORY = "interest_in_product", "interest_in_category"
FUNCTIONS = {
    PRODUCT: ("ID", "Predicted interest in a product, about 0 to 1; null if the model does not know the user."),
    CATEGORY: ("'NAME'", "Highest predicted interest in an eligible product of a category; null as for a product."),
}
"""The functions of a condition, with argument and description."""

FIRST_COLUMNS = ("user_id", "segment", "customer_group", "r_score", "f_score", "m_score")
"""The first columns of every export, if their tables are published."""

HELP = "`ecommerce-assets audience --columns` lists all columns"

_MAX_SUGGESTIONS = 5
_ARROW_ERROR = "reading the stream registered as"
"""Part of DuckDB's message for an error in Arrow, such as a wrong checksum."""

_UNSUPPORTED = {"SUBQUERY": "a subquery", "STAR": "a *", "POSITIONAL_REFERENCE": "a column number"}
_NUMBERS, _TIME = ("double", "float"), "timestamp"


class AudienceError(click.ClickException, RuntimeError):
    """The condition or the file cannot be used; the message says why."""


@dataclass(frozen=True)
class AudienceColumn:
    """A column, or a function, that a condition can use.

    Attributes
    ----------
    table
        The asset that it is from.
    type
        Name of the type in Spark.
    """

    name: str
    table: str
    type: str
    description: str


@dataclass(frozen=True)
class OutputFile:
    """A file to write, on any file system that fsspec knows."""

    address: str
    folder: Folder
    name: str
    kind: str


@dataclass(frozen=True)
class _Call:
    """A call of a function in a condition."""

    function: str
    argument: str

    @property
    def column(self) -> str:
        return f"{self.function}({self.argument})"


@dataclass(frozen=True)
class _Condition:
    """A parsed condition.

    Attributes
    ----------
    sql
        The expression, with a column in place of each call of a function.
    names
        Name in the table → name as written, in the order of the first use.
    calls
        Name of the column → call, in the order of the first use.
    """

    sql: str
    names: dict[str, str]
    calls: dict[str, _Call]


class Audience:
    """The customers that match a condition; see `audience`.

    Attributes
    ----------
    users
        Number of all users.
    count
        Number of users that match the condition.
    columns
        The columns of the export.
    used
        The versions that were read: asset → version.
    notes
        One sentence for each table that was made from other events; with predicted columns, also their test.
    """

    def __init__(self, lake: Lake, where: str, connection: duckdb.DuckDBPyConnection, scratch: Path) -> None:
        self._where, self._connection, self._scratch = where, connection, scratch
        self._tables = Tables(lake)
        self.notes = self._tables.notes
        sources = _sources(self._tables)
        known = _columns(lake, sources)
        condition = _parse(self._connection, where)
        used = [known[name] for name in condition.names if name in known]
        first_columns = [known[name] for name in FIRST_COLUMNS if name in known]
        interests = [AudienceColumn(name, "interest", "float", "") for name in condition.calls]
        columns = {column.name: column for column in (*first_columns, *used, *interests)}
        joined = _join({**columns, "monetary": known["monetary"]})
        for asset, version in sources.items():
            self._connection.register(asset, self._tables.dataset(version))
        self._connection.register("interest", _empty_interest(condition.calls))
        interest_column = next(iter(condition.calls), None)
        names, order = condition.names, identifier(interest_column or "monetary")
        reasons = [_reason_sql(names.get(column.name, column.name), column) for column in (*used, *interests)]
        selected = (
            f"SELECT {', '.join(map(identifier, columns))}, "
            f"concat_ws(', ', {', '.join(reasons) or literal('')}) AS reason, "
            f'{order} AS "order by" FROM ({joined}) AS customers WHERE {condition.sql}'
        )
        self._check_condition(selected, [written for name, written in names.items() if name not in known])
        if interest_column:
            interest = self._interest(list(condition.calls.values()))
            self._connection.unregister("interest")
            self._connection.register("of_index", interest.of_users())
            self._run(
                "CREATE TEMP TABLE interest AS "
                "SELECT user_id, of_index.* EXCLUDE (user_idx) FROM of_index JOIN user_index USING (user_idx)"
            )
        self._run(f"CREATE TEMP TABLE matching AS {selected}")
        if interest_column:
            self._add_causes(interest.of_products(interest_column))
        self.columns = [*columns, "reason"]
        self.count, self.users = (self._rows(table) for table in ("matching", USERS))
        tables = {column.table for column in columns.values()}
        self.used = {asset: v for asset, v in self._tables.used.items() if asset not in TABLES or asset in tables}
        if PREDICTED in self.used:
            self.notes.append(tested_in_words(self.used[PREDICTED].stats.results))

    def write(self, file: OutputFile) -> None:
        """Writes the customers to a file. Readers see only the complete file; it replaces an existing one.

        The order is by the first interest in the condition, or by `monetary` without an interest (highest first), then
        by `user_id`. In a CSV file, a text that a spreadsheet would read as a formula begins with `'`.

        Raises
        ------
        AudienceError
            If the file cannot be written.
        """
        scratch = self._scratch / f"audience.{file.kind}"
        types = self._connection.execute("DESCRIBE matching").fetchall()
        texts = {name for name, kind, *_ in types if kind == "VARCHAR" and file.kind == "csv"}
        columns = ", ".join(without_formula(name) if name in texts else identifier(name) for name in self.columns)
        order = '"order by" DESC NULLS LAST, matching.user_id'
        self._run(
            f"COPY (SELECT {columns} FROM matching ORDER BY {order}) TO {literal(scratch)} ({OPTIONS[file.kind]})"
        )
        try:
            file.folder.put(scratch, file.name)
        except Exception as error:  # each storage client has its own errors
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            reason = reason.splitlines()[0].rstrip(". ")
            raise AudienceError(f"Cannot write {file.address}: {reason}.") from error

    def _check_condition(self, select: str, unknown: list[str]) -> None:
        """Raises AudienceError if DuckDB cannot bind the condition."""
        try:
            self._connection.execute(f"DESCRIBE {select}").fetchall()
        except duckdb.Error as error:
            if not unknown or not isinstance(error, duckdb.BinderException):
                raise _condition_error(self._where, error) from error
            raise AudienceError(self._unknown_column(unknown[0])) from error

    def _unknown_column(self, name: str) -> str:
        missing = [asset for asset in TABLES if asset not in self._tables.used]
        if GROUPS in missing and ALIASES.get(name.lower(), name.lower()) in FIRST_COLUMNS:
            return f"There is no column {name}, because {GROUPS} is not published: materialise it first."
        similar = get_close_matches(
            name.lower(), [c.name for c in audience_columns(self._tables.lake)], _MAX_SUGGESTIONS
        )
        advice = f"did you mean {' or '.join(similar)}?" if similar else f"a text needs quotes, {literal(name)}."
        absent = f" ({' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not published)"
        return f"There is no column {name}{absent if missing and not similar else ''}: {advice} {HELP}."

    def _run(self, sql: str) -> None:
        try:
            self._connection.execute(sql).fetchall()
        except duckdb.Error as error:
            if isinstance(error, duckdb.IOException) or _ARROW_ERROR in str(error):
                reason = one_line(error).rpartition(": ")[2]
                raise AudienceError(f"A file cannot be read ({reason}): `ecommerce-assets verify` finds it.") from error
            raise _condition_error(self._where, error) from error

    def _rows(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])

    def _interest(self, calls: Sequence[_Call]) -> Interest:
        """Returns the interest that the calls ask for, from the model behind the newest recommendations."""
        tables = self._tables
        lists = tables.newest("recommendations")
        model = tables.behind(lists, "als_model") if lists else None
        if lists is None or model is None:
            raise AudienceError(f"{calls[0].function} needs a model: {tables.notes[-1]}")
        for asset in ("user_index", "product_index", "interaction_data"):
            self._connection.register(asset, tables.dataset(tables.exactly_behind(model, asset)))
        eligibility = tables.behind(lists, "product_eligibility")
        if eligibility is None:
            raise AudienceError(f"{calls[0].function} needs the table product_eligibility: {tables.notes[-1]}")
        self._connection.register("product_eligibility", tables.dataset(eligibility))
        saved = SavedModel(tables.lake.folder(model) / MODEL_FOLDER)
        groups = {call.column: self._products(call) for call in calls}
        try:
            return Interest(saved, groups)
        except LookupError as error:
            raise AudienceError(
                f"{error.args[0]}: the model (als_model {model.version}) does not know such a product."
            ) from error

    def _products(self, call: _Call) -> Any:
        """Returns the product_idx of the products in a call."""
        if call.function == PRODUCT:
            try:
                product = typed(call.argument, "product_id", [self._tables.used["product_index"]])
            except UnknownIdError as error:
                raise AudienceError(f"{call.column}: {error}") from error
            sql, values = "SELECT product_idx FROM product_index WHERE product_id = ?", [product]
        else:
            sql = (
                "SELECT product_idx FROM product_index JOIN product_eligibility USING (product_id) WHERE eligible "
                "AND (lower(category) = $1 OR starts_with(lower(category), $1 || '.'))"
            )
            values = [call.argument]
        products = self._connection.execute(sql, values).fetchnumpy()["product_idx"]
        if call.function == CATEGORY and not len(products):
            raise AudienceError(f"{call.column}: no eligible product is in this category; {self._categories(call)}.")
        return products

    def _categories(self, call: _Call) -> str:
        rows = self._connection.execute(
            "SELECT lower(category) FROM product_eligibility WHERE eligible AND category IS NOT NULL GROUP BY ALL "
            "ORDER BY count(*) DESC, lower(category)"
        ).fetchall()
        names = [name for (name,) in rows]
        similar = get_close_matches(call.argument, names, _MAX_SUGGESTIONS)
        return (
            f"{'similar' if similar else 'the largest'} categories are {', '.join(similar or names[:_MAX_SUGGESTIONS])}"
        )

    def _add_causes(self, likeness: pa.Table) -> None:
        """Adds to each reason the product in the user's history that contributed most to the first interest."""
        self._connection.register("likeness", likeness)
        self._run(
            "UPDATE matching SET reason = concat(reason, ', because of ', cause) FROM ("
            "SELECT user_id, concat(product_id, ' (' || name || ')') AS cause FROM ("
            "SELECT user_id, arg_max(product_idx, (rating * likeness, -product_idx)) AS product_idx "
            "FROM interaction_data JOIN likeness USING (product_idx) JOIN user_index USING (user_idx) "
            "WHERE likeness > 0 AND user_id IN (SELECT user_id FROM matching) GROUP BY user_id"
            ") JOIN product_index USING (product_idx) LEFT JOIN product_eligibility USING (product_id)"
            ") AS causes WHERE matching.user_id = causes.user_id"
        )


@contextmanager
def audience(lake: Lake, where: str) -> Iterator[Audience]:
    """Yields the customers that match a condition, to use until the end of the block.

    Parameters
    ----------
    lake
        The lake with the published tables. It must have segmented_users. The columns of other tables are unknown if the
        table is not published.
    where
        One SQL expression over the columns and functions that `audience_columns` returns.

    Raises
    ------
    AudienceError
        If the condition cannot be used.
    VersionNotFoundError
        If segmented_users is not published, or if a version behind the model was removed.

    Examples
    --------
    >>> with audience(Lake("/srv/shop"), "group = 'At Risk' and monetary > 200") as customers:  # doctest: +SKIP
    ...     customers.write(output_file("at_risk.csv"))
    """
    with TemporaryDirectory() as scratch, _connect(Path(scratch)) as connection:
        yield Audience(lake, where, connection, Path(scratch))


def audience_columns(lake: Lake) -> list[AudienceColumn]:
    """Returns the columns and functions of a condition.

    Raises
    ------
    VersionNotFoundError
        If segmented_users is not published.
    """
    known = _columns(lake, _sources(Tables(lake)))
    aliases = [
        AudienceColumn(alias, known[name].table, known[name].type, f"The same as {name}.")
        for alias, name in ALIASES.items()
        if name in known
    ]
    functions = [
        AudienceColumn(f"{name}({argument})", "als_model", "float", description)
        for name, (argument, description) in FUNCTIONS.items()
    ]
    return [*known.values(), *aliases, *functions]


def output_file(address: str) -> OutputFile:
    """Returns the file with this address: a path or a URL that fsspec knows, which ends in .csv, .parquet or .jsonl.

    Raises
    ------
    AudienceError
        If the address has another form or contains a password, or if the folder does not exist.
    """
    if has_password(address):
        raise AudienceError(
            "The address of the file contains a password: remove it, and use the environment variables of the storage."
        )
    kind = address.rpartition(".")[2].lower()
    if kind not in OPTIONS:
        raise AudienceError(f"{address!r} must end in {', '.join(f'.{kind}' for kind in OPTIONS)}.")
    if "://" in address:
        uri, _, name = address.rpartition("/")
    else:
        path = Path(address).expanduser().absolute()
        uri, name = str(path.parent), path.name
        if not path.parent.is_dir():
            raise AudienceError(f"Cannot write {address}: the folder {path.parent} does not exist; create it first.")
        if path.is_dir():
            raise AudienceError(f"Cannot write {address}: it is a folder; choose another name.")
    try:
        return OutputFile(address, Folder(uri), name, kind)
    except (ImportError, ValueError) as error:
        raise AudienceError(f"Cannot write {address}: {error}") from error


def _sources(tables: Tables) -> dict[str, Version]:
    users = tables.newest(USERS)
    if users is None:
        raise VersionNotFoundError(tables.notes[-1])
    others = {asset: tables.beside(users, asset) for asset in TABLES[1:]}
    return {USERS: users, **{asset: version for asset, version in others.items() if version is not None}}


def _columns(lake: Lake, sources: dict[str, Version]) -> dict[str, AudienceColumn]:
    columns: dict[str, AudienceColumn] = {}
    for asset, version in sources.items():
        types = version.columns or {}
        for field in delta.open_table(lake.asset(asset), int(version.version)).schema().fields:
            description = str(field.metadata.get("comment", ""))
            columns.setdefault(field.name, AudienceColumn(field.name, asset, types[field.name], description))
    return columns


def _connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """Returns a DuckDB connection that can use only the folder `scratch` and the registered tables."""
    connection = connect(scratch / "spill")
    for setting in (
        "autoinstall_known_extensions = false",
        "python_enable_replacements = false",
        f"allowed_directories = [{literal(f'{scratch}/')}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _parse(connection: duckdb.DuckDBPyConnection, where: str) -> _Condition:
    """Returns the parsed condition. Raises AudienceError if it is not one expression."""
    quoted, start = _with_quoted_aliases(where), "SELECT * FROM customers WHERE "
    try:
        connection.extract_statements(f"SELECT [\n{quoted}\n]")  # an error if the condition closes the bracket below
        connection.extract_statements(f"{start}(\n{quoted}\n)")
        ((text,),) = connection.execute("SELECT json_serialize_sql($1)", [f"{start}(\n{quoted}\n)"]).fetchall()
        condition = _Condition("", {}, {})
        tree = json.loads(text)
        node = tree["statements"][0]["node"]
        node["where_clause"] = _walk(node["where_clause"], condition)
        ((sql,),) = connection.execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(tree)]).fetchall()
    except duckdb.Error as error:
        raise _condition_error(where, error) from error
    return _Condition(sql.removeprefix(start), condition.names, condition.calls)


def _condition_error(where: str, error: duckdb.Error) -> AudienceError:
    reason = one_line(error).rstrip("!")
    return AudienceError(f"The condition cannot be used ({where}): {reason}{'' if reason.endswith('?') else '.'}")


def _with_quoted_aliases(where: str) -> str:
    """Returns the condition with quotes around aliases that are reserved words of SQL."""
    text, tokens = where.encode(), duckdb.tokenize(where)
    for start, kind in reversed(tokens):
        for alias in ALIASES:
            end = start + len(alias)
            if kind == duckdb.token_type.keyword and text[start:end].lower() == alias.encode():
                text = text[:start] + f'"{alias}"'.encode() + text[end:]
    return text.decode()


def _walk(node: Any, condition: _Condition) -> Any:
    """Returns a syntax tree of DuckDB with columns in place of aliases and calls, and adds them to the condition."""
    if isinstance(node, list):
        return [_walk(each, condition) for each in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("class")
    if kind in _UNSUPPORTED:
        raise AudienceError(f"The condition cannot have {_UNSUPPORTED[kind]}: use only columns and functions. {HELP}.")
    if kind == "COLUMN_REF" and len(node["column_names"]) == 1:
        [name] = node["column_names"]
        column = ALIASES.get(name.lower(), name.lower())
        condition.names.setdefault(column, name)
        return {**node, "column_names": [column]}
    if kind == "FUNCTION" and node["function_name"] in FUNCTIONS:
        call = _call(node)
        condition.calls.setdefault(call.column, call)
        return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [call.column]}
    return {name: _walk(value, condition) for name, value in node.items()}


def _call(node: dict[str, Any]) -> _Call:
    function, arguments = node["function_name"], [argument["expression"] for argument in node["arguments"]]
    if len(arguments) != 1 or arguments[0]["class"] != "CONSTANT" or "text" not in arguments[0].get("literal", {}):
        raise AudienceError(f"{function} needs one value: {function}({FUNCTIONS[function][0]}).")
    text = arguments[0]["literal"]["text"]
    return _Call(function, text.lower() if function == CATEGORY else text)  # DuckDB's columns ignore case


def _join(columns: dict[str, AudienceColumn]) -> str:
    """Returns the SELECT of these columns, one row per user. Except ids, texts are compared without case."""
    selected = ", ".join(
        f"{column.table}.{identifier(name)}"
        + (f" COLLATE NOCASE AS {identifier(name)}" if column.type == "string" and name != "user_id" else "")
        for name, column in columns.items()
    )
    others = [table for table in (*TABLES[1:], "interest") if any(c.table == table for c in columns.values())]
    joins = " ".join(f"LEFT JOIN {table} USING (user_id)" for table in others)
    return f"SELECT {selected} FROM {USERS} {joins}"


def _empty_interest(calls: dict[str, _Call]) -> pa.Table:
    return pa.schema([("user_id", pa.null()), *((name, pa.float32()) for name in calls)]).empty_table()


def _reason_sql(name: str, column: AudienceColumn) -> str:
    """Returns SQL for a part of a reason, such as `monetary = 312.50`."""
    value = identifier(column.name)
    text = f"CAST({value} AS VARCHAR)"
    if column.type in _NUMBERS:
        digits = f"CASE WHEN {value} = trunc({value}) THEN '%.0f' WHEN abs({value}) < 1 THEN '%.4g' ELSE '%.2f' END"
        text = f"printf({digits}, {value})"
    if column.type == _TIME:
        text = f"strftime({value}, '%Y-%m-%d %H:%M')"
    return f"concat({literal(name)}, coalesce(' = ' || {text}, ' is null'))"
