"""What `edgepact solve` answers: a mechanism's exact answer with its audit, one file a mechanism.

Each file holds the frozen result (what is printed, as JSON and as sheets) and the mechanism as a
part: it reads terms from a file and solves them. The mathematics is in `edgepact.mechanisms`, the
readers of files in `edgepact.files`.
"""
