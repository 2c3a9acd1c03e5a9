"""One file per verb: plain functions of a context and options that return a Result and print nothing."""
