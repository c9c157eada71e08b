"""Where supervision comes from: verifiers, votes, values of search trees."""
