"""Continue a text with a trained model: python scripts/generate.py outputs/runs/<one> --prompt "The object" """

from carousel.lab.generate import main

if __name__ == "__main__":
    main()
