"""`ProductRules`: the shop's rules for lists."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from ecommerce_assets.segmentation.naming import ALL_USERS, SEGMENT_NAMES


class ProductRules(BaseModel):
    """The content of `catalog/rules.json`: which products may be recommended, and how lists are composed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_stock_only: bool = Field(default=True, description="Leave out products whose `in_stock` is false.")
    listed_only: bool = Field(default=False, description="Leave out products that the catalogue does not list.")
    excluded_categories: tuple[str, ...] = Field(
        default=(),
        description="Leave out these categories and all below them: `electronics` includes `electronics.audio`.",
    )
    excluded_brands: tuple[str, ...] = Field(default=(), description="Leave out these brands.")
    min_price: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Leave out products that cost less, and those without a price.",
    )
    max_price: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Leave out products that cost more, and those without a price.",
    )
    pinned: dict[str, tuple[StrictInt | StrictStr, ...]] = Field(
        default_factory=dict,
        description="Product ids that come first in the lists, by segment; `*` is all users.",
    )
    max_per_category: StrictInt | None = Field(
        default=None, ge=1, description="Maximum number of products of one category per list."
    )
    max_per_brand: StrictInt | None = Field(
        default=None, ge=1, description="Maximum number of products of one brand per list."
    )
    new_products_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the places of a list, rounded down, for products of the catalogue that nobody has "
        "interacted with yet.",
    )

    @model_validator(mode="after")
    def _validate(self) -> ProductRules:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"min_price {self.min_price:g} is above max_price {self.max_price:g}; correct one of them")
        unknown = set(self.pinned) - {*SEGMENT_NAMES, ALL_USERS}
        if unknown:
            known = ", ".join((*SEGMENT_NAMES, ALL_USERS))
            raise ValueError(f"pinned has {sorted(unknown)[0]!r}, which is not a segment; use {known}")
        return self
