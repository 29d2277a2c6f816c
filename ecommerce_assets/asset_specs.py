"""Metadata and tags of assets that the UI shows before a materialisation: columns, folder, code, tags to filter by."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg

from ecommerce_assets.settings import Settings
from ecommerce_assets.storage.metadata import column_schema
from ecommerce_assets.storage.stored_asset import StoredAsset

USER_COLUMNS = {"user_id", "user_idx", "userFactors.id"}
"""Columns of tables, and parts of models, that identify users."""


def with_code(assets: Sequence[Any]) -> Sequence[Any]:
    """Returns the assets with the file and line of their functions, which the UI opens in an editor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.with_source_code_references(assets)


def described(spec: dg.AssetSpec, stored: StoredAsset, settings: Settings, *, on_demand: bool = False) -> dg.AssetSpec:
    """Returns the spec with its folder, its columns and two tags.

    `refresh` is `external` (made outside the project), `daily` (each new day), `batch` (after each batch of days) or
    `on_demand` (by its own job). `personal_data` is `true` if rows or parts are about single users.
    """
    name = spec.key.to_user_string()
    metadata: dict[str, Any] = {"dagster/uri": f"{settings.data_dir}/{stored.folder or f'lake/{name}'}"}
    if stored.table:
        metadata["dagster/column_schema"] = column_schema(stored.table.with_id_type(settings.id_type), {})
    is_personal = not USER_COLUMNS.isdisjoint(stored.column_names)
    tags = {"refresh": _refresh(spec, stored, on_demand), "personal_data": str(is_personal).lower()}
    return spec.merge_attributes(metadata=metadata, tags=tags)


def _refresh(spec: dg.AssetSpec, stored: StoredAsset, on_demand: bool) -> str:
    if on_demand:
        return "on_demand"
    if stored.folder:
        return "external"
    return "daily" if spec.partitions_def else "batch"
