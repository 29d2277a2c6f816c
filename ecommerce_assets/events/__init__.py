"""From raw files to cleaned events: landing, the daily partitions, the rules that a row must meet."""
