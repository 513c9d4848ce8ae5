"""A fleet that learns: real labelled crops, dealt unevenly to vehicles that each run the product's own training."""
