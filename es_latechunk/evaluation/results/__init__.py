"""What every combination is worth: measures, differences with intervals, and the recommendation."""
