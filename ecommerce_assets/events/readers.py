"""Input managers of the external asset raw_events: they find the raw files and record them as inputs of the run."""

import dagster as dg
from pydantic import Field

from ecommerce_assets.events.exports import ExportedEvents
from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.events.raw import LAND_COMMAND, RawDataError, RawEvents, find_raw_events
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.inputs import step_inputs
from ecommerce_assets.storage.step_context import running_step


class RawEventsReader(dg.ConfigurableIOManager):
    """Finds the raw files of the requested days. Fails if all of them are absent or unreadable."""

    data_dir: str = Field(description="Data dir: folder or bucket that contains raw/events.")
    id_type: IdType = Field(default="bigint", description="Type of user and product ids: bigint or string.")
    spark: dg.ResourceDependency[SparkResource]

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError(f"raw_events is an external asset: land files with {LAND_COMMAND}.")

    def load_input(self, context: dg.InputContext) -> RawEvents:
        try:
            raw = find_raw_events(self.data_dir, sorted(context.asset_partition_keys), self.id_type)
        except RawDataError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        # Starts Spark, or waits until the Spark of another run ends, before the time of this step is measured.
        _ = self.spark.spark_session
        inputs = step_inputs(*running_step(context))
        if raw.absent:
            context.log.warning(
                f"No raw data for {len(raw.absent)} of {len(raw.absent) + len(raw.days)} days; their stored events are "
                f"kept: {', '.join(raw.absent)}."
            )
        if raw.other_files:
            context.log.warning(
                f"Files that are not Parquet are ignored: {', '.join(file.path for file in raw.other_files)}."
            )
        for message in raw.unreadable.values():
            context.log.error(message)
        inputs.add_external(raw.inputs())
        return raw


class ExportsReader(dg.IOManager):
    """Provides exports instead of the raw partitions, whatever days are requested."""

    def __init__(self, exports: ExportedEvents) -> None:
        self._exports = exports

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError("raw_events is an external asset: exports are only read.")

    def load_input(self, context: dg.InputContext) -> ExportedEvents:
        inputs = step_inputs(*running_step(context))
        inputs.add_external(self._exports.inputs())
        return self._exports
