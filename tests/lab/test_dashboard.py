"""What TensorBoard is told, read back from its files."""

import math
from types import SimpleNamespace

from events import hparams, read

from carousel.lab import dashboard


def test_the_loss_comes_first_and_the_epoch_not_at_all(tmp_path):
    logger = dashboard.TensorBoard(tmp_path, name="", version="")
    names = (
        "epoch",
        "val/loss",
        "val/baseline_best constant",
        "test/within_0.04",
        "gates/f_mean",
        "memory_length/c",
        "mine/x",
    )
    logger.log_metrics(dict.fromkeys(names, 1.0), 5)
    logger.finalize("success")
    tags = sorted(read(tmp_path).Tags()["scalars"])
    assert tags == [
        "1_loss/baseline_best constant",
        "1_loss/val",
        "2_metrics/test_within_0.04",
        "6_memory_length/c",
        "7_gates/f_mean",
        "mine/x",
    ]


def test_a_run_writes_its_settings_and_outcome_but_no_columns(tmp_path):
    trainer = SimpleNamespace(loggers=[dashboard.TensorBoard(tmp_path, name="", version="")], global_step=60)
    record = {
        "model": "rnn",
        "task": "adding",
        "seq_len": 10,
        "solved": True,
        "steps": 60,
        "metrics": {"test/loss": 0.5},
    }
    record["config"] = {"optimizer.lr": 0.1, "train_size": None, "model.hidden_size": [4, 8], "model._target_": "x"}
    trainer.loggers[0].experiment.close()  # as the trainer leaves it
    dashboard.log_run(trainer, record, math.nan)
    events = read(tmp_path)
    found = hparams(events)
    assert set(found) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    values = found["_hparams_/session_start_info"].session_start_info.hparams
    assert set(values) == {"model", "task", "seq_len", "optimizer.lr", "train_size", "model.hidden_size"}
    assert values["model.hidden_size"].string_value == "[4, 8]"
    scalars = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    assert scalars == {"outcome/solved": 1, "outcome/steps": 60, "outcome/test_loss": 0.5}  # no horizon was measured
