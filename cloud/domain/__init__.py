"""Pure rules: facts and a time come in, decisions go out."""
