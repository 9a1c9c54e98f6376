"""Time our layers beside torch's, forward and training step: python scripts/bench.py --threads 2."""

from carousel.commands import bench

if __name__ == "__main__":
    bench()
