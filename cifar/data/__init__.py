"""The data sets: found, downloaded or drawn, checked, augmented."""
