"""Raw files -> Interactions, Items, Users."""
