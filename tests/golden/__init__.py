"""Golden numbers of the original implementation, and what is needed to compare with them."""
