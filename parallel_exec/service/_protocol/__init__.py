"""What client and server say to each other: messages, errors, documents. Knows neither side."""
