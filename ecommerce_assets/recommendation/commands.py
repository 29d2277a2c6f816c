"""The commands `ecommerce-assets parameters | promote | revert | compare`. They start no Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ecommerce_assets.recommendation.compare import compare as compare_evaluations
from ecommerce_assets.recommendation.compare import find_evaluation
from ecommerce_assets.recommendation.evaluation_checks import WORSE, outcome_of, with_interval
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.storage import promoted as store
from ecommerce_assets.storage.commands import Answer, aligned, command
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.markdown import percent
from ecommerce_assets.storage.promoted import Promoted, read_promoted
from ecommerce_assets.storage.reading import read_document


@command
def parameters(lake: Lake) -> Answer:
    """Show the value of each parameter, its source, and when it was promoted.

    Example: ecommerce-assets parameters
    """
    return (*_answer(read_promoted(lake)), 0)


@command
@click.argument("version")
@click.option(
    "--force", is_flag=True, help="Promote a version that is worse than the promoted parameters, or has no metrics."
)
def promote(lake: Lake, version: str, force: bool) -> Answer:
    """Promote the parameters of VERSION: a version of als_evaluation, `newest`, or `tuning`.

    `newest` is the newest version of als_evaluation, `published` the one that the newest recommendations were made
    from, and `tuning` the best trial of the newest als_tuning. All later runs without config use these parameters.

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
                f"{with_interval(compared['ndcg']['difference'])}. To promote it anyway, add --force."
            )
        if not chosen.stats.results.get("metrics") and not force:
            raise click.ClickException(
                f"als_evaluation {chosen.version} has no metrics "
                f"({chosen.stats.results.get('holdout', 'no holdout')}). To promote it anyway, add --force."
            )
        values, source = Parameters.of_evaluation(chosen.parameters).as_dict(), f"als_evaluation {chosen.version}"
    promoted = read_promoted(lake)
    current = Parameters.of(promoted.values).as_dict()
    changed = {
        asset: {name: value for name, value in part.items() if value != current[asset][name]}
        for asset, part in values.items()
    }
    if not any(changed.values()):
        document, lines = _answer(promoted)
        return document, [*lines, f"Nothing to promote: the parameters of {source} are already promoted."], 0
    document, lines = _answer(store.promote(lake, changed, source))
    return document, [*lines, "The next run without config uses them."], 0


@command
def revert(lake: Lake) -> Answer:
    """Promote the previously promoted parameters again, or the defaults if there are none.

    Example: ecommerce-assets revert
    """
    return (*_answer(store.revert(lake)), 0)


@command
@click.argument("one")
@click.argument("other")
def compare(lake: Lake, one: str, other: str) -> Answer:
    """Compare two versions of als_evaluation: ONE and OTHER are a version, `newest` or `published`.

    `published` is the version that the newest recommendations were made from.

    Example: ecommerce-assets compare published 4
    """
    document = compare_evaluations(lake, find_evaluation(lake, one), find_evaluation(lake, other))
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
            f"{lists['changed']:,} of {lists['users']:,} lists changed; lists have {percent(lists['in_common'])} of "
            "their products in common"
        )
    else:
        lines.append("No lists to compare: only promoted parameters have lists.")
    return document, lines, 0


def _answer(promoted: Promoted) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the parameters as JSON values, and as lines of a table."""
    values, document = Parameters.of(promoted.values).as_dict(), []
    for asset, part in values.items():
        for name, value in part.items():
            entry = promoted.assets.get(asset, {}).get(name)
            at = entry.promoted_at.isoformat(timespec="seconds") if entry else None
            row = {"parameter": f"{asset}.{name}", "value": value}
            document.append({**row, "source": entry.source if entry else "default", "promoted_at": at})
    header = ("parameter", "value", "source", "promoted (UTC)")
    rows = [(r["parameter"], str(r["value"]), r["source"], (r["promoted_at"] or "")[:19]) for r in document]
    return document, aligned([header, *rows])
