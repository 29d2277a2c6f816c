"""The command `ecommerce-assets`: promoted parameters, evaluations, deliveries, audiences, versions, the service.

Starts no Spark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from ecommerce_assets.delivery.audience import TABLES, audience, audience_columns, target_of
from ecommerce_assets.delivery.deliver import default_target, deliver
from ecommerce_assets.lookup.tables import versions
from ecommerce_assets.recommendation.compare import compare, find_evaluation
from ecommerce_assets.recommendation.evaluation_checks import WORSE, outcome_of, percent, with_interval
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.__main__ import Answer, aligned, command
from ecommerce_assets.storage.__main__ import main as storage
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.promoted import Promoted, promote, read_promoted, revert
from ecommerce_assets.storage.reading import read_document


@click.group()
def main() -> None:
    """Promote parameters; compare evaluations; deliver, export, serve results; list, trace, verify, remove versions."""


@command
def _parameters(lake: Lake) -> Answer:
    """Show each parameter, where its value comes from and when it was promoted.

    Example: ecommerce-assets parameters
    """
    return (*_shown(read_promoted(lake)), 0)


@command
@click.argument("version")
@click.option("--force", is_flag=True, help="Also where it is worse than what is promoted, or was not evaluated.")
def _promote(lake: Lake, version: str, force: bool) -> Answer:
    """Promote the parameters of VERSION: a version of als_evaluation, `newest`, or `tuning`.

    `newest` is the newest version of als_evaluation, `published` the one behind the newest recommendations, and
    `tuning` the best trial of the newest als_tuning. All runs without config use them from now on.

    Examples: ecommerce-assets promote 3; ecommerce-assets promote tuning
    """
    if version == "tuning":
        tuning = lake.latest("als_tuning")
        best = read_document(lake, tuning)["params"]
        if not best:
            raise click.ClickException(
                f"als_tuning {tuning.version} has no successful trial: run the job als_tuning again."
            )
        values, source = {"als_model": best}, f"als_tuning {tuning.version}"
    else:
        chosen = find_evaluation(lake, version)
        compared = chosen.stats.results.get("compared")
        if compared and outcome_of(compared["ndcg"]["difference"]) == WORSE and not force:
            raise click.ClickException(
                f"als_evaluation {chosen.version} is worse than the promoted parameters: the difference of the NDCG is "
                f"{with_interval(compared['ndcg']['difference'])}. Promote it in spite of that with --force."
            )
        if not chosen.stats.results.get("metrics") and not force:
            raise click.ClickException(
                f"als_evaluation {chosen.version} has no metrics "
                f"({chosen.stats.results.get('holdout', 'no holdout')}). Promote it in spite of that with --force."
            )
        values, source = Parameters.of_evaluation(chosen.parameters).as_dict(), f"als_evaluation {chosen.version}"
    before = Parameters.of(read_promoted(lake).values).as_dict()
    changed = {
        asset: {name: value for name, value in part.items() if value != before[asset][name]}
        for asset, part in values.items()
    }
    document, lines = _shown(promote(lake, changed, source))
    return document, [*lines, "The next run without config uses them."], 0


@command
def _revert(lake: Lake) -> Answer:
    """Promote again what was promoted before; the defaults, where that was nothing.

    Example: ecommerce-assets revert
    """
    return (*_shown(revert(lake)), 0)


@command
@click.argument("one")
@click.argument("other")
def _compare(lake: Lake, one: str, other: str) -> Answer:
    """Compare two versions of als_evaluation; `newest`, and `published`, the one behind the newest recommendations.

    Example: ecommerce-assets compare published 4
    """
    document = compare(lake, find_evaluation(lake, one), find_evaluation(lake, other))
    first, second = document["versions"]
    rows: list[Sequence[str]] = [("", f"als_evaluation {first}", f"als_evaluation {second}")]
    for name, values in document["metrics"].items():
        rows.append((name, *(with_interval(value) if value else "" for value in values)))
    rows += [(name, *map(str, values)) for name, values in document["changes"].items()]
    lines = aligned(rows)
    difference, lists = document["difference"], document["lists"]
    if difference:
        lines.append(f"NDCG of {second} less that of {first}: {with_interval(difference)}, {outcome_of(difference)}")
    if lists:
        lines.append(
            f"{lists['changed']:,} of {lists['users']:,} lists changed; they have {percent(lists['in_common'])} of the "
            "products in common"
        )
    else:
        lines.append("No lists to compare: lists are made with the promoted parameters only.")
    return document, lines, 0


@command
@click.argument("target", required=False)
def _deliver(lake: Lake, target: str | None) -> Answer:
    """Deliver the newest recommendations, similar products, pairs, segments and groups to TARGET, all at once.

    TARGET is an SQLite file (shop.sqlite, shop.db, sqlite:///PATH), a PostgreSQL database
    (postgresql://HOST/DATABASE, with the password in PGPASSWORD or ~/.pgpass), or a folder of files (parquet:FOLDER,
    csv:FOLDER, jsonl:FOLDER; FOLDER is a path or a URL such as s3://bucket/shop). The default is
    ECOMMERCE_DELIVER_TO; if that is unset, the file delivered.sqlite in the data dir.

    Example: ecommerce-assets deliver postgresql://db.example.com/shop
    """
    delivery = deliver(lake, target or load_settings().deliver_to or default_target(lake))
    rows = [(asset, table.version, f"{table.rows:,}") for asset, table in delivery.tables.items()]
    outcome = "Delivered to" if delivery.changed else "Nothing to do: these versions are already in"
    lines = [*aligned([("table", "version", "rows"), *rows], numbers=(2,)), f"{outcome} {delivery.target}"]
    return {**delivery.document(), "changed": delivery.changed}, lines, 0


@command
@click.argument("where", required=False)
@click.option(
    "--to", metavar="FILE", help="Path or URL that ends in .csv, .parquet or .jsonl. Without it, or with -, only count."
)
@click.option("--columns", is_flag=True, help="List the columns and functions that WHERE can use.")
def _audience(lake: Lake, where: str | None, to: str | None, columns: bool) -> Answer:
    """Count the customers that match WHERE, and write them with their scores and reasons to a file.

    WHERE is an SQL expression over the features, segments, groups and predicted values of customers. Its functions
    interest_in_product(ID) and interest_in_category('NAME') are the predicted interest, about 0 to 1.

    \b
    Examples:
      ecommerce-assets audience --columns
      ecommerce-assets audience "segment = 'VIP_Customers' and recency > 14"
      ecommerce-assets audience "group = 'At Risk' and monetary > 200" --to audience.csv
      ecommerce-assets audience "interest_in_category('electronics') > 0.3" --to s3://bucket/audience.parquet
    """
    if columns:
        listed = audience_columns(lake)
        rows = [("column", "table", "type", "description"), *((c.name, c.table, c.type, c.description) for c in listed)]
        missing = [table for table in TABLES if table not in {column.table for column in listed}]
        absent = [f"Not published: {', '.join(missing)}"] if missing else []
        return [asdict(column) for column in listed], [*aligned(rows), *absent], 0
    if where is None or not where.strip():
        raise click.UsageError(
            'WHERE is missing. Add a condition such as "monetary > 200"; --columns lists the columns.'
        )
    target = target_of(to) if to not in (None, "-") else None
    with audience(lake, where) as customers:
        share = percent(customers.count / customers.users) if customers.users else "no users"
        if not click.get_current_context().params["as_json"]:
            click.echo(f"{customers.count:,} of {customers.users:,} users ({share}) match.")
        if target:
            customers.write(target)
        document = {
            "where": where,
            "count": customers.count,
            "users": customers.users,
            "to": target.address if target else None,
            "columns": customers.columns,
            "versions": versions(customers.used.values()),
            "notes": customers.notes,
        }
    written = [f"Written to {target.address}"] if target else []
    used = ", ".join(f"{asset} {version.version}" for asset, version in customers.used.items())
    return document, [*written, f"Versions: {used}", *customers.notes], 0


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8_000, show_default=True, help="Port to listen on.")
@click.option("--data-dir", metavar="DIR", help="By default ECOMMERCE_DATA_DIR, else the shipped sample's.")
def _serve(host: str, port: int, data_dir: str | None) -> None:
    """Answer HTTP requests with published results: recommendations, similar products, pairs, segments.

    Read-only. It loads new versions without a restart. http://127.0.0.1:8000/docs describes the requests.

    Example: ecommerce-assets serve --port 8080
    """
    try:
        from ecommerce_assets.delivery.service import run
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "fastapi_offline", "uvicorn"):
            raise
        raise click.ClickException(
            f"The package {error.name} is not installed: run `uv sync --extra serve`, or "
            "`pip install 'ecommerce_assets[serve]'`."
        ) from None
    run(data_dir or load_settings().data_dir, host, port)


def _shown(promoted: Promoted) -> tuple[list[dict[str, Any]], list[str]]:
    values, document = Parameters.of(promoted.values).as_dict(), []
    for asset, part in values.items():
        for name, value in part.items():
            known = promoted.assets.get(asset, {}).get(name)
            at = known.promoted_at.isoformat(timespec="seconds") if known else None
            row = {"parameter": f"{asset}.{name}", "value": value}
            document.append({**row, "source": known.source if known else "default", "promoted_at": at})
    header = ("parameter", "value", "source", "promoted (UTC)")
    rows = [(r["parameter"], str(r["value"]), r["source"], (r["promoted_at"] or "")[:19]) for r in document]
    return document, aligned([header, *rows])


for each in (_parameters, _promote, _revert, _compare, _deliver, _audience, _serve, *storage.commands.values()):
    main.add_command(each)


if __name__ == "__main__":
    main()
