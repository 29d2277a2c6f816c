"""The input managers of the external asset `raw_events`: a run is handed files, not rows, and what it read is recorded.

How the files are found and read is in raw.py and exports.py, which know nothing of Dagster.
"""

import dagster as dg
from pydantic import Field

from ecommerce_assets.events.exports import ExportedEvents
from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.events.raw import LAND_COMMAND, RawDataError, RawEvents, find_raw_events
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.inputs import step_inputs
from ecommerce_assets.storage.step_context import running_step


class RawEventsReader(dg.ConfigurableIOManager):
    """Finds the files of the days asked for.

    Raises `dg.Failure` if the raw folder, or every day asked for, is absent or unreadable.
    """

    data_dir: str = Field(description="Folder or bucket that holds raw/.")
    id_type: IdType = Field(default="bigint", description="Type of the ids of users and products.")
    spark: dg.ResourceDependency[SparkResource]

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError("raw_events come from outside: land them with " + LAND_COMMAND)

    def load_input(self, context: dg.InputContext) -> RawEvents:
        try:
            raw = find_raw_events(self.data_dir, sorted(context.asset_partition_keys), self.id_type)
        except RawDataError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        # Spark starts, or waits for another run's to end, before the clock of this step does.
        _ = self.spark.spark_session
        inputs = step_inputs(*running_step(context))
        if raw.absent:
            context.log.warning(
                f"No raw data for {len(raw.absent)} of {len(raw.absent) + len(raw.days)} days; what is stored for them "
                f"stays: {', '.join(raw.absent)}."
            )
        if raw.other_files:
            context.log.warning(
                f"Not read, because they are not Parquet: {', '.join(file.path for file in raw.other_files)}."
            )
        for sentence in raw.unreadable.values():
            context.log.error(sentence)
        inputs.add_external(raw.inputs())
        return raw


class ExportsReader(dg.IOManager):
    """In place of RawEventsReader: hands exports to the run, whatever days it asks for."""

    def __init__(self, exports: ExportedEvents) -> None:
        self._exports = exports

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError("exports come from outside")

    def load_input(self, context: dg.InputContext) -> ExportedEvents:
        inputs = step_inputs(*running_step(context))
        inputs.add_external(self._exports.inputs())
        return self._exports
