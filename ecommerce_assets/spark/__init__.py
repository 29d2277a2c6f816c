"""The ground floor's Spark: the session of a run and the rule that there is one at a time on a machine."""
