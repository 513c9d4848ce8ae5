"""One file a way to break the product. Each names the claim of the demo that has to notice, in CLAIM."""
