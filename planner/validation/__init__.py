"""Published measurements, run again through the code that plans: cases, scenarios made of them, scores, reports."""
