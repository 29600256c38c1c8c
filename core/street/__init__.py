"""The synthetic street: people, scenes and virtual cameras whose boxes and identities are exact."""
