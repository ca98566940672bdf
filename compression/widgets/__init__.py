"""What notebooks show: drawings of the library's objects as HTML and as plain text, and widgets."""
