"""The rules of the segment names, at their limits."""

import pytest

from ecommerce_assets.segmentation.naming import SEGMENT_NAMES, name_segment


def test_names_are_in_the_order_of_their_rules() -> None:
    assert SEGMENT_NAMES == ("VIP_Customers", "Loyal_Customers", "Active_Buyers", "Dormant_Users", "Casual_Browsers")


@pytest.mark.parametrize(
    ("recency", "frequency", "monetary", "conversion_rate", "name"),
    [
        (29.99, 10.01, 500.01, 0, "VIP_Customers"),
        (29.99, 10.01, 500, 0, "Loyal_Customers"),  # monetary > 500
        (29.99, 10, 500.01, 0, "Loyal_Customers"),  # frequency > 10
        (30, 10.01, 500.01, 0, "Loyal_Customers"),  # recency < 30
        (59.99, 5.01, 0, 0, "Loyal_Customers"),
        (59.99, 5, 0, 0, "Casual_Browsers"),  # frequency > 5
        (60, 5.01, 0, 0, "Casual_Browsers"),  # recency < 60
        (29.99, 1, 0, 0.101, "Active_Buyers"),
        (29.99, 1, 0, 0.1, "Casual_Browsers"),  # conversion_rate > 0.1
        (30, 1, 0, 0.101, "Casual_Browsers"),  # recency < 30
        (60.01, 2.99, 0, 0, "Dormant_Users"),
        (60, 2.99, 0, 0, "Casual_Browsers"),  # recency > 60
        (60.01, 3, 0, 0, "Casual_Browsers"),  # frequency < 3
        # More than one rule holds.
        (10, 11, 501, 0.5, "VIP_Customers"),
        (10, 11, 500, 0.5, "Loyal_Customers"),
        (10, 5, 500, 0.5, "Active_Buyers"),
        # Money alone.
        (90, 1, 1e6, 0, "Dormant_Users"),
        (45, 4, 1e6, 1.0, "Casual_Browsers"),
    ],
)
def test_the_first_rule_that_holds_names_the_segment(
    recency: float, frequency: float, monetary: float, conversion_rate: float, name: str
) -> None:
    means = {"recency": recency, "frequency": frequency, "monetary": monetary, "conversion_rate": conversion_rate}
    assert name_segment(means) == name
