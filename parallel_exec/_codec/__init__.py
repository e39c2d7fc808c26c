"""Python values, arrays and MessagePack to bytes and back."""
