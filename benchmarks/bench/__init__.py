"""`circuits bench`: which circuits are faithful, over tasks, models, methods, sizes and seeds, and how surely."""
