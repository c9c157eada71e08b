"""Part-of-speech taggers: reference learners that train in seconds."""
