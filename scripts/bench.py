"""Time our layers beside torch's, forward and training step: python scripts/bench.py --threads 2."""

from carousel.lab.bench import main

if __name__ == "__main__":
    main()
