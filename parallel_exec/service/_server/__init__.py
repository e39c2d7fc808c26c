"""The server: who is admitted, what is deployed, and what each method does."""
