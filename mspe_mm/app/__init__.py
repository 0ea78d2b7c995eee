"""A page in the browser that shows the methods side by side on an image."""
