"""Train one model, or sweep: python scripts/train.py model=lstm task.seq_len=50; --help shows the options."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the imports are done, Ctrl-C just ends

from carousel.commands import train

if __name__ == "__main__":
    train()
