"""From files to cleaned events: landing, the raw partitions, cleaning, and the sensor for new days."""
