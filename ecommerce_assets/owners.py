"""Who answers for the assets. A shop that adopts the project puts its own team here."""

OWNERS = ["team:data"]
