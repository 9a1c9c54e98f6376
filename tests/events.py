"""TensorBoard's files of events, read back."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def hparams(events):
    found = events.summary_metadata
    content = {
        name: data.plugin_data.content for name, data in found.items() if data.plugin_data.plugin_name == "hparams"
    }
    return {name: HParamsPluginData.FromString(part) for name, part in content.items()}
