"""Train one model, or sweep: python scripts/train.py model=lstm task.seq_len=50; --help shows the options."""

from carousel.lab.app import main

if __name__ == "__main__":
    main()
