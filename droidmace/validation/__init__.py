"""Are the answers still right: labelled data, accuracy, a reference run."""
