"""What a saved model makes of new data, as CSV: python scripts/predict.py outputs/runs/<one> data.csv."""

from carousel.commands import predict

if __name__ == "__main__":
    predict()
