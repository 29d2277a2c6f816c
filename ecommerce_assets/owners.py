"""The owners of the assets, as the UI shows them. Replace them with your own team."""

OWNERS = ["team:data"]
