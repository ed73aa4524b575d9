"""From a trained model to new text."""
