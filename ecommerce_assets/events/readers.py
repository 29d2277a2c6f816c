"""The input managers of the external asset `raw_events`: a run is handed files, not rows, and what it read is recorded.

How the files are found and read stands in raw.py and drops.py, which know nothing of Dagster.
"""

import dagster as dg

from ecommerce_assets.events.drops import DroppedEvents
from ecommerce_assets.events.raw import LAND_COMMAND, RawEvents, find_raw_events
from ecommerce_assets.storage.inputs import step_inputs


class RawEventsReader(dg.IOManager):
    """Finds the files of the days asked for.

    Raises RawDataError where the raw folder, or every day asked for, is absent.
    """

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError("raw_events come from outside: land them with " + LAND_COMMAND)

    def load_input(self, context: dg.InputContext) -> RawEvents:
        raw = find_raw_events(self._data_dir, sorted(context.asset_partition_keys))
        # Spark starts, or waits for another run's to end, before the clock of this step does.
        _ = context.resources.spark.spark_session
        inputs = step_inputs(context.step_context.run_id, context.step_context.step.key)
        if raw.absent:
            context.log.warning(
                f"No raw data for {len(raw.absent)} of {len(raw.absent) + len(raw.days)} days; what is stored for them "
                f"stays: {', '.join(raw.absent)}."
            )
        for sentence in raw.unreadable.values():
            context.log.error(sentence)
        inputs.add_external(raw.inputs())
        return raw


class DropsReader(dg.IOManager):
    """In place of RawEventsReader: hands the drops to the run, whatever days it asks for."""

    def __init__(self, drops: DroppedEvents) -> None:
        self._drops = drops

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError("drops come from outside")

    def load_input(self, context: dg.InputContext) -> DroppedEvents:
        inputs = step_inputs(context.step_context.run_id, context.step_context.step.key)
        inputs.add_external(self._drops.inputs())
        return self._drops
