"""What a sweeper would launch, without launching it."""

from types import SimpleNamespace

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

Plugins.instance()  # its scan loads every plugin's module anew: classes taken before it are other ones

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

from hydra_plugins.grids import Grids  # noqa: E402
from hydra_plugins.search import Search  # noqa: E402
from hydra_plugins.side_by_side import Elsewhere, SideBySide  # noqa: E402

__all__ = ["BasicSweeper", "Elsewhere", "Grids", "Search", "SideBySide", "batches"]


def batches(sweeper, *arguments, loader=None):
    sweeper.hydra_context = SimpleNamespace(config_loader=loader)
    overrides = OverridesParser.create().parse_overrides([*sweeper._parse_config(), *arguments])
    return sweeper.split_arguments(overrides, sweeper.max_batch_size)
