"""What keeps a grid in health over the years: looking at itself, back-ups, retention, samples, a clock that is set."""
