"""What a sweeper would launch, without launching it."""

from types import SimpleNamespace

from hydra.core.override_parser.overrides_parser import OverridesParser


def batches(sweeper, *arguments):
    sweeper.hydra_context = SimpleNamespace(config_loader=None)
    overrides = OverridesParser.create().parse_overrides([*sweeper._parse_config(), *arguments])
    return sweeper.split_arguments(overrides, sweeper.max_batch_size)
