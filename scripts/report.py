"""Gather the runs of a folder into tables, figures and a report: python scripts/report.py outputs/sweeps/<one>."""

from carousel.commands import report

if __name__ == "__main__":
    report()
