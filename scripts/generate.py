"""Continue a text with a trained model: python scripts/generate.py outputs/runs/<one> --prompt "The object" """

from carousel.commands import generate

if __name__ == "__main__":
    generate()
