"""What a saved model makes of new data, as CSV: python scripts/predict.py outputs/runs/<one> data.csv."""

from carousel.lab.predict import main

if __name__ == "__main__":
    main()
