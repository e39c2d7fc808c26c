"""What runs in the zygote and in worker processes."""
