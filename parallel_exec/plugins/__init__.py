"""What a user hands over to run: plugins of JavaScript and of WebAssembly, and handles to their functions."""
