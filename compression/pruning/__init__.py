"""What methods that remove units or zero weights share: units, saliency, limits, and the choice under them."""
