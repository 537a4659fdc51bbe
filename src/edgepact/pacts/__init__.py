"""The pacts there are: one file a pairing of method, mechanism and job."""
