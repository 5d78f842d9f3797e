"""Amazon Personalize's nouns: what may be created, changed, deleted, and when."""
