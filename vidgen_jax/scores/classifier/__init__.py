"""Video classifiers for the score S3 and for Frechet distances on a classifier of the data set in use."""
