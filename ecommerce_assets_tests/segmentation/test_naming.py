"""The five names, each at the borders of its rule."""

import pytest

from ecommerce_assets.segmentation.naming import SEGMENT_NAMES, name_segment


def named(recency: float, frequency: float, monetary: float = 0.0, conversion_rate: float = 0.0) -> str:
    return name_segment(
        {"recency": recency, "frequency": frequency, "monetary": monetary, "conversion_rate": conversion_rate}
    )


def test_the_names_in_the_order_of_their_rules() -> None:
    assert SEGMENT_NAMES == ("VIP_Customers", "Loyal_Customers", "Active_Buyers", "Dormant_Users", "Casual_Browsers")


@pytest.mark.parametrize(
    ("recency", "frequency", "monetary", "name"),
    [
        (29.99, 10.01, 500.01, "VIP_Customers"),
        (0, 1000, 1e9, "VIP_Customers"),
        (29.99, 10.01, 500, "Loyal_Customers"),  # monetary > 500
        (29.99, 10, 500.01, "Loyal_Customers"),  # frequency > 10
        (30, 10.01, 500.01, "Loyal_Customers"),  # recency < 30
    ],
)
def test_vip(recency: float, frequency: float, monetary: float, name: str) -> None:
    assert named(recency, frequency, monetary) == name


@pytest.mark.parametrize(
    ("recency", "frequency", "name"),
    [
        (59.99, 5.01, "Loyal_Customers"),
        (59.99, 5, "Casual_Browsers"),  # frequency > 5
        (60, 5.01, "Casual_Browsers"),  # recency < 60
    ],
)
def test_loyal(recency: float, frequency: float, name: str) -> None:
    assert named(recency, frequency) == name


@pytest.mark.parametrize(
    ("recency", "conversion_rate", "name"),
    [
        (29.99, 0.101, "Active_Buyers"),
        (29.99, 0.1, "Casual_Browsers"),  # conversion_rate > 0.1
        (30, 0.101, "Casual_Browsers"),  # recency < 30
    ],
)
def test_active(recency: float, conversion_rate: float, name: str) -> None:
    assert named(recency, 1, conversion_rate=conversion_rate) == name


@pytest.mark.parametrize(
    ("recency", "frequency", "name"),
    [
        (60.01, 2.99, "Dormant_Users"),
        (60, 2.99, "Casual_Browsers"),  # recency > 60
        (60.01, 3, "Casual_Browsers"),  # frequency < 3
    ],
)
def test_dormant(recency: float, frequency: float, name: str) -> None:
    assert named(recency, frequency) == name


def test_the_first_rule_that_holds_wins() -> None:
    # VIP, Loyal and Active all hold; without the money Loyal and Active; without the days Active alone.
    assert named(10, 11, 501, 0.5) == "VIP_Customers"
    assert named(10, 11, 500, 0.5) == "Loyal_Customers"
    assert named(10, 5, 500, 0.5) == "Active_Buyers"


def test_money_alone_makes_no_vip() -> None:
    assert named(90, 1, 1e6) == "Dormant_Users"
    assert named(45, 4, 1e6, 1.0) == "Casual_Browsers"
