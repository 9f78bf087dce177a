"""Golden numbers of the original implementation, and helpers to compare with them."""
