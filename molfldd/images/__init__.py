"""Black-and-white images: binarized MNIST and scikit-learn's small digits."""
