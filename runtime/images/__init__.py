"""From images as users have them to the model's input, and from token maps back to the image."""
