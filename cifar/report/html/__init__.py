"""The report as one HTML file: tables that sort and filter, pictures that a network gets wrong, images that flip."""
