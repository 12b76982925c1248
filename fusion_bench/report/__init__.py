"""Tables, figures and a page of a study, from the store alone."""
