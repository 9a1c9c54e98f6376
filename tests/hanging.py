"""What a launcher may be given to do. It imports next to nothing, for each process does so anew."""

import json
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


def hangs_or_ends(cfg) -> None:
    """A run that leaves the record that lies beside its folder; with the seed 0 it takes for ever."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    record = json.loads((folder.parent / "record.json").read_text())
    (folder / "result.json").write_text(json.dumps(record | {"status": "running"}))
    while cfg.seed == 0:
        time.sleep(1)
    (folder / "result.json").write_text(json.dumps(record))
